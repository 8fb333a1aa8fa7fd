import { describe, expect, test } from 'vitest'
import { nameText, parseName } from '../dns-message/name.ts'
import { printRecords } from '../dns-message/print-records.ts'
import type { Query } from '../dns-message/query.ts'
import { addressSets, type Answer, emptyAnswer, rcodes, recordClasses } from '../dns-message/record-set.ts'
import { parseType } from '../dns-message/type-names.ts'
import { parseIp } from '../net/ip-address.ts'
import { ClusterZone } from './cluster-zone.ts'
import { PodNamespaces } from './pod-namespaces.ts'
import { resolveQuery } from './resolve.ts'
import { PodSearchPaths } from './search-path.ts'
import { makePod, snapshotOf } from './testing.ts'

const snapshot = snapshotOf(
  {
    'shop/web': { ips: ['172.30.4.10'] },
    'data/db': { ips: ['172.30.4.20'] },
  },
  {
    namespaces: ['other'],
    pods: [
      makePod('shop/a', { ips: ['10.7.0.1'] }),
      makePod('data/b', { ips: ['10.7.0.2'] }),
      makePod('data/done', { ips: ['10.7.0.1'], phase: 'Succeeded' }),
      makePod('shop/twice', { ips: ['10.7.0.9'] }),
      makePod('data/twice', { ips: ['10.7.0.9'] }),
    ],
  },
)

/** What the world knows, by name; other names do not exist. */
const world: Readonly<Record<string, Answer>> = {
  'api.example.com.': {
    ...emptyAnswer(rcodes.NOERROR),
    answer: addressSets([parseIp('198.51.100.7')], { owner: parseName('api.example.com'), ttl: 300 }),
  },
  'v4only.example.com.': emptyAnswer(rcodes.NOERROR),
  'broken.example.com.': emptyAnswer(rcodes.SERVFAIL),
  'nas.corp.example.': {
    ...emptyAnswer(rcodes.NOERROR),
    answer: addressSets([parseIp('198.51.100.9')], { owner: parseName('nas.corp.example'), ttl: 60 }),
  },
  'dev.': emptyAnswer(rcodes.NOERROR),
}

async function ask(name: string, client: string, type = 'A'): Promise<{ said: string; asked: string[] }> {
  const zone = new ClusterZone()
  zone.update(snapshot, true)
  const pods = new PodNamespaces()
  pods.update(snapshot)
  const asked: string[] = []
  const search = new PodSearchPaths({
    zone: zone.name,
    namespaceOf: (client) => pods.namespaceOf(client),
    more: [parseName('corp.example')],
  })
  const forward = ({ name }: Query['question']) => {
    asked.push(nameText(name))
    return Promise.resolve(world[nameText(name)] ?? emptyAnswer(rcodes.NXDOMAIN))
  }
  const query: Query = {
    id: 1,
    recursionDesired: true,
    checkingDisabled: false,
    authenticData: false,
    question: { name: parseName(name), type: parseType(type), class: recordClasses.IN },
    edns: undefined,
  }
  const forwarder = { forward, isReturning: () => false }
  const answer = await resolveQuery(query, { client, zone, forwarder, names: undefined, version: undefined, search })
  const code = Object.entries(rcodes).find(([, code]) => code === answer.rcode)?.[0] ?? ''
  return { said: [code, ...printRecords(answer.answer)].join(' | '), asked }
}

describe('PodSearchPaths', () => {
  const inShop = 'api.example.com.shop.svc.cluster.local'
  test('PodSearchPaths brings the pod to the end of its search path in one question', async () => {
    expect(await ask(inShop, '10.7.0.1')).toEqual({
      said: `NOERROR | ${inShop}. 5 CNAME api.example.com. | api.example.com. 300 A 198.51.100.7`,
      // The domains of the cluster are known here; only these two are asked of others.
      asked: ['api.example.com.corp.example.', 'api.example.com.'],
    })
  })

  test.each([
    ['from a pod of another namespace', inShop, '10.7.0.2'],
    ['from no pod', inShop, '192.0.2.1'],
    ['from an address that pods of two namespaces claim', inShop, '10.7.0.9'],
    ['that is not the first domain of the path', 'api.example.com.svc.cluster.local', '10.7.0.1'],
    ['in the namespace itself', 'shop.svc.cluster.local', '10.7.0.1'],
  ])('PodSearchPaths leaves a name %s as it is', async (_, name, client) => {
    const { said, asked } = await ask(name, client)
    expect(said).toMatch(name === 'shop.svc.cluster.local' ? /^NOERROR$/ : /^NXDOMAIN$/)
    expect(asked).toEqual([])
  })

  test.each([
    [
      'a Service of its own namespace is no walk',
      'web.shop.svc.cluster.local',
      'NOERROR | web.shop.svc.cluster.local. 5 A 172.30.4.10',
    ],
    [
      'a Service of another one',
      'db.data.shop.svc.cluster.local',
      'NOERROR | db.data.shop.svc.cluster.local. 5 CNAME db.data.svc.cluster.local. | db.data.svc.cluster.local. 5 A 172.30.4.20',
    ],
    [
      'what the node adds',
      'nas.shop.svc.cluster.local',
      'NOERROR | nas.shop.svc.cluster.local. 5 CNAME nas.corp.example. | nas.corp.example. 60 A 198.51.100.9',
    ],
    ['a top-level domain does not stand in for a Service that is missing', 'dev.shop.svc.cluster.local', 'NXDOMAIN'],
    ['a name that nobody has', 'no.example.com.shop.svc.cluster.local', 'NXDOMAIN'],
    [
      'a name that cannot be looked up now is denied here, so that the pod asks for itself',
      'broken.example.com.shop.svc.cluster.local',
      'NXDOMAIN',
    ],
    [
      'a name without such an address exists',
      'v4only.example.com.shop.svc.cluster.local',
      'NOERROR | v4only.example.com.shop.svc.cluster.local. 5 CNAME v4only.example.com.',
    ],
  ])('PodSearchPaths: %s', async (_, name, expected) => {
    expect((await ask(name, '10.7.0.1')).said).toBe(expected)
  })

  test('PodSearchPaths walks for addresses only', async () => {
    expect((await ask(inShop, '10.7.0.1', 'TXT')).said).toBe('NXDOMAIN')
  })
})
