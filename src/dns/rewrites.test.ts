import { describe, expect, test } from 'vitest'
import { nameText, parseName } from '../dns-message/name.ts'
import { printRecords } from '../dns-message/print-records.ts'
import {
  addressSets,
  type Answer,
  emptyAnswer,
  nameSet,
  recordClasses,
  recordTypes,
  srvSet,
} from '../dns-message/record-set.ts'
import { parseIp } from '../net/ip-address.ts'
import { parsePattern, type RewriteRule, Rewrites } from './rewrites.ts'

function rule(text: string, more: Partial<RewriteRule> = {}): RewriteRule {
  const [match = 'exact', from = '', to = ''] = text.split(' ')
  return { match: match as RewriteRule['match'], from, to, goesOn: false, answers: [], ...more }
}

const question = (text: string) => ({ name: parseName(text), type: 1, class: recordClasses.IN })

function rewritten(rules: readonly RewriteRule[], name: string): string | undefined {
  const result = new Rewrites(rules).rewrite(question(name))
  return result && nameText(result.question.name)
}

/** An answer that says `10.0.0.1` of the rewritten name. */
function answerFor(name: string, more: Partial<Answer> = {}): Answer {
  const answer = addressSets([parseIp('10.0.0.1')], { owner: parseName(name), ttl: 5 })
  return { ...emptyAnswer(0), answer, ...more }
}

describe('Rewrites', () => {
  test.each([
    ['exact example.net example.org', 'Example.NET', 'example.org.'],
    ['exact example.net example.org', 'www.example.net', undefined],
    ['prefix old- new-', 'old-web.example', 'new-web.example.'],
    ['suffix .schmoogle.com .google.com', 'mail.schmoogle.com', 'mail.google.com.'],
    ['suffix .schmoogle.com. .google.com.', 'schmoogle.com', undefined],
    [
      'substring service.us-west-1.example.org service.us-west-1.consul',
      'ftp.service.us-west-1.example.org',
      'ftp.service.us-west-1.consul.',
    ],
    [
      'regex (.*)-(us-west-1)\\.example\\.org {1}.service.{2}.consul',
      'ftp-us-west-1.example.org',
      'ftp.service.us-west-1.consul.',
    ],
    ['regex ^(?P<name>[a-z]+)\\.test\\.$ {1}.default.svc.cluster.local', 'web.test', 'web.default.svc.cluster.local.'],
  ])('Rewrites by "%s" of %s makes %s', (text, name, expected) => {
    expect(rewritten([rule(text)], name)).toBe(expected)
  })

  test('Rewrites stops at the first rule that fits, unless it goes on', () => {
    const second = rule('exact b.example c.example')
    expect(rewritten([rule('exact a.example b.example'), second], 'a.example')).toBe('b.example.')
    expect(rewritten([rule('exact a.example b.example', { goesOn: true }), second], 'a.example')).toBe('c.example.')
  })

  test('Rewrites answers under the name that was asked, in its case', () => {
    const result = new Rewrites([rule('exact example.net web.default.svc.cluster.local')]).rewrite(
      question('Example.net'),
    )
    expect(printRecords(result?.restore(answerFor('web.default.svc.cluster.local')).answer ?? [])).toEqual([
      'Example.net. 5 A 10.0.0.1',
    ])
  })

  test('Rewrites turns a suffix back in all owners, and other names only as it is told', () => {
    const values = { part: 'value', from: parsePattern(String.raw`(.*)\.svc\.cluster\.local`), to: '{1}.corp' } as const
    const rules = [rule('suffix .corp .svc.cluster.local', { answers: [values] })]
    const result = new Rewrites(rules).rewrite(question('web.shop.corp'))
    const target = parseName('x.web.shop.svc.cluster.local')
    const restored = result?.restore(
      answerFor('web.shop.svc.cluster.local', {
        answer: [
          nameSet(recordTypes.CNAME, [target], { owner: parseName('web.shop.svc.cluster.local'), ttl: 5 }),
          srvSet([{ priority: 0, weight: 1, port: 80, target }], { owner: target, ttl: 5 }),
        ],
        additional: addressSets([parseIp('10.0.0.1')], { owner: target, ttl: 5 }),
      }),
    )
    expect(printRecords([...(restored?.answer ?? []), ...(restored?.additional ?? [])])).toEqual([
      'web.shop.corp. 5 CNAME x.web.shop.corp.',
      'x.web.shop.corp. 5 SRV 0 1 80 x.web.shop.corp.',
      'x.web.shop.corp. 5 A 10.0.0.1',
    ])
  })

  test('Rewrites that make no name of a name are SERVFAIL', () => {
    const result = new Rewrites([rule('regex ^(.*)$ {1}..oops')]).rewrite(question('a.example'))
    expect(result?.restore(answerFor('a.example'))).toMatchObject({ rcode: 2 })
  })

  test('Rewrites refuses a pattern that is none', () => {
    expect(() => new Rewrites([rule('regex ( x')])).toThrow(/"\(" is not a regular expression/)
  })
})
