import { describe, expect, test } from 'vitest'
import { emptySnapshot } from '../model/snapshot.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { ClusterZone, type ClusterZoneOptions } from './cluster-zone.ts'
import { parseName } from '../dns-message/name.ts'
import { rcodes, recordTypes } from '../dns-message/record-set.ts'
import { printRecords } from '../dns-message/print-records.ts'
import { makePod, snapshotOf } from './testing.ts'

const snapshot = snapshotOf(
  {
    'shop/cart': { ips: ['172.30.4.10'], ports: ['http/tcp/80', 'metrics/tcp/9090'], endpoints: ['10.7.1.11'] },
    'shop/legacy': { ips: ['172.30.4.20'], ports: ['/tcp/8080'] },
    'shop/web': { ips: ['172.30.4.40', 'fd00:172:30::28'], ports: ['http/tcp/80'] },
    'shop/pay': { externalName: 'pay.example.com' },
    'shop/address': { externalName: '198.51.100.7' },
    'shop/nonsense': { externalName: 'a..b' },
    'data/db': {
      ports: ['mysql/tcp/3306'],
      endpoints: ['db-0@10.7.1.21', 'db-1@10.7.2.22', 'db-2@10.7.3.23!', '10.7.4.24'],
    },
    'data/starting': { ports: ['http/tcp/80'], endpoints: ['10.7.1.61!'] },
    'data/early': { ports: ['http/tcp/80'], endpoints: ['10.7.1.62!'], publishNotReady: true },
    'data/void': { ports: ['http/tcp/80'] },
    'data/other': { ips: ['172.30.4.50'], endpoints: ['10.7.1.21'] },
    'data/six': { endpoints: ['fd00:10::'] },
  },
  {
    namespaces: ['quiet'],
    pods: [makePod('jobs/a', { ips: ['10.7.9.1'] }), makePod('jobs/b', { ips: ['10.7.9.2'], phase: 'Failed' })],
  },
)

function ask(question: string, options: ClusterZoneOptions & { synced?: boolean } = {}): string | string[] {
  const [name = '', type = ''] = question.split(' ')
  const zone = new ClusterZone(options)
  zone.update(snapshot, options.synced ?? true)
  const typeNumber = (recordTypes as Record<string, number>)[type] ?? Number(type)
  const result = zone.answer(parseName(name), typeNumber)
  if (result.kind === 'alias') return printRecords([result.cname])
  if (result.kind === 'foreign') return 'foreign'
  const { answer } = result
  // The serial is the time.
  if (answer.answer.length > 0)
    return printRecords(answer.answer).map((line) => line.replace(/(SOA \S+ \S+) \d{10}/, '$1 SERIAL'))
  const rcode = Object.entries(rcodes).find(([, code]) => code === answer.rcode)?.[0] ?? ''
  return `${rcode === 'NOERROR' ? 'NODATA' : rcode}${printRecords(answer.authority)
    .map((soa) => ` of ${soa.split(' ')[0]}`)
    .join('')}`
}

/** The order of records in a set means nothing. */
const unordered = (answer: string | readonly string[]) => (typeof answer === 'string' ? answer : new Set(answer))

describe('ClusterZone.answer()', () => {
  const denied = 'NXDOMAIN of cluster.local.'
  const nodata = 'NODATA of cluster.local.'
  for (const [question, expected] of [
    ['cart.shop.svc.cluster.local A', ['cart.shop.svc.cluster.local. 5 A 172.30.4.10']],
    ['Cart.SHOP.svc.cluster.local A', ['Cart.SHOP.svc.cluster.local. 5 A 172.30.4.10']],
    ['cart.shop.svc.cluster.local AAAA', nodata],
    ['cart.shop.svc.cluster.local HTTPS', nodata],
    ['cart.shop.svc.cluster.local 65534', nodata],
    ['cart.shop.svc.cluster.local SOA', nodata],
    ['cart.shop.svc.cluster.local ANY', ['cart.shop.svc.cluster.local. 5 HINFO "RFC8482" ""']],
    ['cart.shop.svc.cluster.local AXFR', 'REFUSED'],
    [
      '_metrics._tcp.cart.shop.svc.cluster.local SRV',
      ['_metrics._tcp.cart.shop.svc.cluster.local. 5 SRV 0 100 9090 cart.shop.svc.cluster.local.'],
    ],
    [
      'metrics.tcp.cart.shop.svc.cluster.local SRV',
      ['metrics.tcp.cart.shop.svc.cluster.local. 5 SRV 0 100 9090 cart.shop.svc.cluster.local.'],
    ],
    ['_http._tcp.cart.shop.svc.cluster.local A', ['_http._tcp.cart.shop.svc.cluster.local. 5 A 172.30.4.10']],
    ['_http._udp.cart.shop.svc.cluster.local SRV', denied],
    ['_._tcp.legacy.shop.svc.cluster.local SRV', denied],
    // An empty non-terminal (RFC 8020).
    ['_tcp.cart.shop.svc.cluster.local A', nodata],
    ['_tcp.legacy.shop.svc.cluster.local A', denied],
    [
      '_http._tcp.web.shop.svc.cluster.local SRV',
      ['_http._tcp.web.shop.svc.cluster.local. 5 SRV 0 50 80 web.shop.svc.cluster.local.'],
    ],
    // CoreDNS names the endpoints of every Service.
    ['10-7-1-11.cart.shop.svc.cluster.local A', ['10-7-1-11.cart.shop.svc.cluster.local. 5 A 10.7.1.11']],
    [
      'db.data.svc.cluster.local A',
      ['10.7.1.21', '10.7.2.22', '10.7.4.24'].map((ip) => `db.data.svc.cluster.local. 5 A ${ip}`),
    ],
    ['db-0.db.data.svc.cluster.local A', ['db-0.db.data.svc.cluster.local. 5 A 10.7.1.21']],
    ['db-2.db.data.svc.cluster.local A', denied],
    ['10-7-1-21.db.data.svc.cluster.local A', denied],
    [
      '_mysql._tcp.db.data.svc.cluster.local SRV',
      ['db-0', 'db-1', '10-7-4-24'].map(
        (host) => `_mysql._tcp.db.data.svc.cluster.local. 5 SRV 0 33 3306 ${host}.db.data.svc.cluster.local.`,
      ),
    ],
    ['starting.data.svc.cluster.local A', denied],
    ['early.data.svc.cluster.local A', ['early.data.svc.cluster.local. 5 A 10.7.1.62']],
    ['void.data.svc.cluster.local A', denied],
    ['fd00-10--0.six.data.svc.cluster.local AAAA', ['fd00-10--0.six.data.svc.cluster.local. 5 AAAA fd00:10::']],
    ['pay.shop.svc.cluster.local A', ['pay.shop.svc.cluster.local. 5 CNAME pay.example.com.']],
    ['pay.shop.svc.cluster.local CNAME', ['pay.shop.svc.cluster.local. 5 CNAME pay.example.com.']],
    ['pay.shop.svc.cluster.local SRV', nodata],
    ['v2.pay.shop.svc.cluster.local A', denied],
    ['address.shop.svc.cluster.local A', denied],
    ['nonsense.shop.svc.cluster.local A', denied],
    ['shop.svc.cluster.local A', nodata],
    ['quiet.svc.cluster.local A', nodata],
    ['jobs.svc.cluster.local A', nodata],
    ['nowhere.svc.cluster.local A', denied],
    ['svc.cluster.local NS', nodata],
    ['cart.shop.cluster.local A', denied],
    ['cluster.local A', nodata],
    ['cluster.local NS', ['cluster.local. 5 NS ns.dns.cluster.local.']],
    [
      'cluster.local SOA',
      ['cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 5'],
    ],
    ['ns.dns.cluster.local A', ['ns.dns.cluster.local. 5 A 10.96.0.10']],
    ['dns.cluster.local A', nodata],
    ['dns-version.cluster.local TXT', ['dns-version.cluster.local. 28800 TXT "1.1.0"']],
    ['dns-version.cluster.local A', nodata],
    ['mycluster.local A', 'foreign'],
    ['10.4.30.172.in-addr.arpa PTR', ['10.4.30.172.in-addr.arpa. 5 PTR cart.shop.svc.cluster.local.']],
    ['10.4.30.172.in-addr.arpa A', 'NODATA of in-addr.arpa.'],
    ['30.172.in-addr.arpa PTR', 'NODATA of in-addr.arpa.'],
    [
      '21.1.7.10.in-addr.arpa PTR',
      ['db-0.db', '10-7-1-21.other'].map((name) => `21.1.7.10.in-addr.arpa. 5 PTR ${name}.data.svc.cluster.local.`),
    ],
    ['23.3.7.10.in-addr.arpa PTR', 'foreign'],
    ['in-addr.arpa SOA', 'foreign'],
  ] as const)
    test(`answers ${question}`, () =>
      expect(unordered(ask(question, { serverAddresses: [parseIp('10.96.0.10')] }))).toEqual(unordered(expected)))

  for (const [pods, question, expected] of [
    ['insecure', '10-1-2-3.shop.pod.cluster.local A', ['10-1-2-3.shop.pod.cluster.local. 5 A 10.1.2.3']],
    ['insecure', '10-1-2-3.shop.pod.cluster.local AAAA', nodata],
    ['insecure', '10-1-2-3.nowhere.pod.cluster.local A', denied],
    ['insecure', 'cart-0.shop.pod.cluster.local A', denied],
    ['insecure', 'x.10-1-2-3.shop.pod.cluster.local A', denied],
    ['verified', '10-7-9-1.jobs.pod.cluster.local A', ['10-7-9-1.jobs.pod.cluster.local. 5 A 10.7.9.1']],
    ['verified', '10-7-9-2.jobs.pod.cluster.local A', denied],
    ['verified', '10-7-9-1.shop.pod.cluster.local A', denied],
    ['disabled', '10-7-9-1.jobs.pod.cluster.local A', denied],
  ] as const)
    test(`answers ${question} when pods are ${pods}`, () => expect(ask(question, { pods })).toEqual(expected))

  test('answers known names and denies none before the first full list', () => {
    expect(ask('cart.shop.svc.cluster.local A', { synced: false })).toHaveLength(1)
    expect(ask('sold.shop.svc.cluster.local A', { synced: false })).toBe('SERVFAIL')
    expect(ask('www.example.com A', { synced: false })).toBe('foreign')
    const ownNetworks = [parseCidr('172.30.0.0/16'), parseCidr('fd00::/8')]
    const other = '1.9.30.172.in-addr.arpa'
    expect(ask(`${other} PTR`, { synced: false, ownNetworks })).toBe('SERVFAIL')
    expect(ask(`${other} PTR`, { synced: true, ownNetworks })).toBe('foreign')
    expect(ask('1.2.0.192.in-addr.arpa PTR', { synced: false, ownNetworks })).toBe('foreign')
    expect(ask('10.4.30.172.in-addr.arpa PTR', { synced: false, ownNetworks })).toHaveLength(1)
  })

  test('takes its zone and TTL from the options', () => {
    const options = { zone: 'K8s.example.net', ttl: 400 }
    expect(ask('cart.shop.svc.k8s.example.net A', options)).toEqual([
      'cart.shop.svc.k8s.example.net. 400 A 172.30.4.10',
    ])
    expect(ask('cart.shop.svc.cluster.local A', options)).toBe('foreign')
    expect(ask('k8s.example.net SOA', options)).toEqual([
      'k8s.example.net. 300 SOA ns.dns.k8s.example.net. hostmaster.k8s.example.net. SERIAL 7200 1800 86400 400',
    ])
  })
})

describe('ClusterZone.update()', () => {
  const addresses = (zone: ClusterZone, name: string, type: number = recordTypes.A) => {
    const result = zone.answer(parseName(name), type)
    return result.kind === 'answer' ? printRecords(result.answer.answer).map((line) => line.split(' ')[3]) : result.kind
  }

  test('shows each change to the next question, forwards and in reverse', () => {
    const zone = new ClusterZone()
    const first = snapshotOf({ 'shop/cart': { ips: ['172.30.4.10'] }, 'data/db': { endpoints: ['db-0@10.7.1.21'] } })
    zone.update(first, true)
    expect(addresses(zone, 'cart.shop.svc.cluster.local')).toEqual(['172.30.4.10'])
    const changed = snapshotOf({ 'shop/cart': { ips: ['172.30.4.99'] }, 'data/db': { endpoints: ['db-0@10.7.9.21'] } })
    zone.update({ ...first, services: first.services.with(changed.services), slices: changed.slices }, true)
    expect(addresses(zone, 'cart.shop.svc.cluster.local')).toEqual(['172.30.4.99'])
    expect(addresses(zone, 'db-0.db.data.svc.cluster.local')).toEqual(['10.7.9.21'])
    expect(addresses(zone, '10.4.30.172.in-addr.arpa', recordTypes.PTR)).toBe('foreign')
    expect(addresses(zone, '21.9.7.10.in-addr.arpa', recordTypes.PTR)).toEqual(['db-0.db.data.svc.cluster.local.'])
  })

  test('forgets everything of objects that are gone', () => {
    const zone = new ClusterZone()
    zone.update(snapshot, true)
    zone.update(emptySnapshot, true)
    for (const name of [
      'cart.shop.svc.cluster.local',
      'shop.svc.cluster.local',
      'quiet.svc.cluster.local',
      'jobs.svc.cluster.local',
    ]) {
      const result = zone.answer(parseName(name), recordTypes.A)
      expect(result).toMatchObject({ kind: 'answer', answer: { rcode: rcodes.NXDOMAIN } })
    }
    expect(zone.answer(parseName('30.172.in-addr.arpa'), recordTypes.PTR)).toEqual({ kind: 'foreign' })
  })
})
