import { describe, expect, test } from 'vitest'
import { parseCidr } from '../net/cidr.ts'
import { formatRule, quote, randomMatch, type Rule } from './rule.ts'
import { formatRestore, parseSave } from './save-format.ts'

describe('formatRule()', () => {
  test.each<[string, Rule, string]>([
    ['nothing but a target', { target: 'RETURN' }, '-j RETURN'],
    ['nothing at all', {}, ''],
    [
      'a port of an address',
      {
        destination: parseCidr('10.96.0.5/32'),
        protocol: 'tcp',
        comment: 'ns/svc:p80 cluster IP',
        destinationPort: 80,
        target: 'KUBE-SVC-X',
      },
      '-d 10.96.0.5/32 -p tcp -m comment --comment "ns/svc:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-X',
    ],
    [
      'turned round',
      { source: { not: parseCidr('10.0.0.0/8') }, input: { not: 'br+' }, target: 'DROP' },
      '! -s 10.0.0.0/8 ! -i br+ -j DROP',
    ],
    [
      'a protocol without a port',
      { protocol: 'udp', matches: '-m recent --set', protocolMatch: true, target: 'DNAT --to-destination 10.0.0.1:53' },
      '-p udp -m recent --set -m udp -j DNAT --to-destination 10.0.0.1:53',
    ],
    [
      'a match before the comment',
      { first: '-m conntrack --ctstate NEW', comment: 'one', target: 'A' },
      '-m conntrack --ctstate NEW -m comment --comment one -j A',
    ],
  ])('writes %s', (_, rule, text) => {
    expect(formatRule(rule)).toBe(text)
  })
})

test.each([
  ['plain_word-1', 'plain_word-1'],
  ['two words', '"two words"'],
  ['ns/svc', '"ns/svc"'],
  [String.raw`a "quoted" \ one's`, String.raw`"a \"quoted\" \\ one\'s"`],
])('quote() writes %s as iptables-save does', (text, quoted) => {
  expect(quote(text)).toBe(quoted)
})

test('randomMatch() shows the 31 bits that the kernel keeps', () => {
  expect(randomMatch(0.3333333333)).toBe('-m statistic --mode random --probability 0.33333333349')
})

test('parseSave() reads tables, chains and rules, and formatRestore() writes them back by name', () => {
  const text =
    '# a comment\n*nat\n:OUTPUT ACCEPT [5:6]\n:B - [0:0]\n:A - [0:0]\n-A OUTPUT -j A\n-A B -j A\n-A A\nCOMMIT\n'
  const nat = parseSave(text).get('nat')
  expect(nat).toEqual(
    new Map([
      ['OUTPUT', ['-j A']],
      ['B', ['-j A']],
      ['A', ['']],
    ]),
  )
  const chains = new Map([...(nat ?? [])].filter(([name]) => name !== 'OUTPUT'))
  const change = { table: 'nat', chains, prepend: [{ chain: 'OUTPUT', rule: '-j B' }], deleteChains: ['OLD'] } as const
  expect(formatRestore([change, { table: 'filter', chains: new Map() }], 'legacy')).toBe(
    '*nat\n:A - [0:0]\n:B - [0:0]\n:OLD - [0:0]\n-A A \n-A B -j A\n-I OUTPUT 1 -j B\n-X OLD\nCOMMIT\n',
  )
  expect(formatRestore([], 'nft')).toBe('')
})
