import { describe, expect, test } from 'vitest'
import { nameText, parseName } from '../dns-message/name.ts'
import { printRecords } from '../dns-message/print-records.ts'
import type { Question } from '../dns-message/query.ts'
import { addressSets, emptyAnswer, rcodes, recordClasses } from '../dns-message/record-set.ts'
import { parseType } from '../dns-message/type-names.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { Service } from '../model/service.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { AccessRules, minimalAny } from './access-rules.ts'
import { ExternalNames } from './external-names.ts'
import { type NameStage, resolveQuery } from './resolve.ts'
import { snapshotOf } from './testing.ts'

function snapshot() {
  const plain = snapshotOf({
    'shop/lb': { ips: ['172.30.4.11'], ports: ['http/tcp/80'] },
    'shop/web': { ips: ['172.30.4.10'] },
    'shop/named': { ips: ['172.30.4.12'], ports: ['http/tcp/80'] },
    'shop/odd': { ips: ['172.30.4.13'] },
  })
  const outside = {
    externalIPs: [parseIp('198.51.100.9')],
    loadBalancerIngress: [{ ip: parseIp('fd00::9'), ipMode: 'VIP' as const }],
  }
  const more: Readonly<Record<string, Partial<Service>>> = {
    lb: outside,
    named: { loadBalancerHostnames: ['LB-7.provider.example', 'other.provider.example'] },
    odd: { loadBalancerHostnames: ['not..a.name'] },
  }
  const services = [...plain.services].map(
    ([key, service]) => [key, { ...service, ...more[service.name] }] as [typeof key, Service],
  )
  return { ...plain, services: SharedMap.from(services) }
}

function ask(stage: NameStage, question: string, client = '10.0.0.1'): string | undefined {
  const [name = '', type = ''] = question.split(' ')
  const answer = stage.answer({ name: parseName(name), type: parseType(type), class: recordClasses.IN }, client)
  if (!answer) return undefined
  const code = Object.entries(rcodes).find(([, code]) => code === answer.rcode)?.[0] ?? ''
  const soa = answer.authority.length > 0 ? ['SOA'] : []
  return [code, ...printRecords([...answer.answer, ...answer.additional]), ...soa].join(' | ')
}

describe('ExternalNames', () => {
  const stage = new ExternalNames({ zones: [parseName('ext.example')], serverAddresses: [parseIp('10.96.0.10')] })
  stage.update(snapshot())

  test.each([
    ['lb.shop.ext.example A', 'NOERROR | lb.shop.ext.example. 5 A 198.51.100.9'],
    ['LB.shop.ext.example AAAA', 'NOERROR | LB.shop.ext.example. 5 AAAA fd00::9'],
    ['lb.shop.ext.example MX', 'NOERROR | SOA'],
    [
      '_http._tcp.lb.shop.ext.example SRV',
      'NOERROR | _http._tcp.lb.shop.ext.example. 5 SRV 0 50 80 lb.shop.ext.example. | lb.shop.ext.example. 5 A 198.51.100.9 | lb.shop.ext.example. 5 AAAA fd00::9',
    ],
    ['_https._tcp.lb.shop.ext.example SRV', 'NXDOMAIN | SOA'],
    ['_tcp.lb.shop.ext.example A', 'NOERROR | SOA'],
    ['web.shop.ext.example A', 'NXDOMAIN | SOA'],
    ['named.shop.ext.example A', 'NOERROR | named.shop.ext.example. 5 CNAME LB-7.provider.example.'],
    ['named.shop.ext.example SRV', 'NOERROR | named.shop.ext.example. 5 SRV 0 100 80 LB-7.provider.example.'],
    [
      '_http._tcp.named.shop.ext.example AAAA',
      'NOERROR | _http._tcp.named.shop.ext.example. 5 CNAME LB-7.provider.example.',
    ],
    ['odd.shop.ext.example A', 'NXDOMAIN | SOA'],
    ['nothing.shop.ext.example A', 'NXDOMAIN | SOA'],
    ['shop.ext.example A', 'NOERROR | SOA'],
    ['prod.ext.example A', 'NXDOMAIN | SOA'],
    ['ext.example NS', 'NOERROR | ext.example. 5 NS ns1.dns.ext.example. | ns1.dns.ext.example. 5 A 10.96.0.10'],
    ['ns1.dns.ext.example A', 'NOERROR | ns1.dns.ext.example. 5 A 10.96.0.10'],
    ['ext.example A', 'NOERROR | SOA'],
    ['www.example A', undefined],
  ])('ExternalNames says of %s: %s', (question, expected) => {
    expect(ask(stage, question)).toBe(expected)
  })

  test.each([
    ['A', ['CNAME LB-7.provider.example.', 'A 192.0.2.7']],
    ['CNAME', ['CNAME LB-7.provider.example.']],
  ])('resolveQuery() follows the alias of a load balancer for a question about %s', async (type, expected) => {
    const name = parseName('named.shop.ext.example')
    const asked: string[] = []
    const forwarder = {
      isReturning: () => false,
      forward({ name }: Question) {
        asked.push(nameText(name))
        return { ...emptyAnswer(rcodes.NOERROR), answer: addressSets([parseIp('192.0.2.7')], { owner: name, ttl: 60 }) }
      },
    }
    const answer = await resolveQuery(
      {
        id: 1,
        recursionDesired: true,
        checkingDisabled: false,
        authenticData: false,
        question: { name, type: parseType(type), class: recordClasses.IN },
        edns: undefined,
      },
      { client: '10.0.0.1', zone: undefined, forwarder, names: undefined, version: undefined, stages: [stage] },
    )
    expect(printRecords(answer.answer).map((line) => line.replace(/^\S+ \d+ /, ''))).toEqual(expected)
    expect(asked).toEqual(type === 'A' ? ['LB-7.provider.example.'] : [])
    expect(answer).toMatchObject({ rcode: rcodes.NOERROR, authoritative: true, from: 'k8s_external' })
  })

  test('ExternalNames leaves unknown names to others if it is told so', () => {
    const open = new ExternalNames({ zones: [parseName('ext.example')], passesOn: true })
    open.update(snapshot())
    expect(ask(open, 'nothing.shop.ext.example A')).toBeUndefined()
  })

  test('ExternalNames touches its own zones only', () => {
    expect(stage.touches(parseName('cluster.local').key)).toBe(false)
    expect(stage.touches(parseName('example').key)).toBe(true)
  })
})

describe('AccessRules', () => {
  const stage = new AccessRules({
    zones: [parseName('example')],
    rules: [
      { action: 'allow', types: undefined, clients: [parseCidr('10.0.1.0/24')] },
      { action: 'filter', types: new Set([28]), clients: undefined },
      { action: 'block', types: undefined, clients: [parseCidr('10.0.0.0/8'), parseCidr('fd00::/8')] },
    ],
  })

  test.each([
    ['a.example A', '10.0.1.5', undefined],
    ['a.example AAAA', '10.0.2.5', 'NOERROR'],
    ['a.example A', '10.0.2.5', 'REFUSED'],
    ['a.example A', 'fd00::1%eth0', 'REFUSED'],
    ['a.example A', '192.0.2.1', undefined],
    ['a.example.org A', '10.0.2.5', undefined],
  ])('AccessRules says of %s from %s: %s', (question, client, expected) => {
    expect(ask(stage, question, client)).toBe(expected)
  })
})

test('minimalAny answers ANY with one small record', () => {
  expect(ask(minimalAny, 'a.example ANY')).toBe('NOERROR | a.example. 8482 HINFO "ANY obsoleted" "See RFC 8482"')
  expect(ask(minimalAny, 'a.example A')).toBeUndefined()
})
