import {
  type Arbitrary,
  dictionary,
  array,
  assert,
  boolean,
  constant,
  constantFrom,
  nat,
  oneof,
  property,
  record as recordOf,
  stringMatching,
  tuple,
  uniqueArray,
} from 'fast-check'
import { describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { emptyAnswer, rcodes } from '../dns-message/record-set.ts'
import { AnswerFinder } from '../dns-workers/answer-finder.ts'
import type { Snapshot } from '../model/snapshot.ts'
import { ClusterZone } from './cluster-zone.ts'
import { DnsCounts } from './dns-counts.ts'
import { type ResolveContext, resolveQuery } from './resolve.ts'
import { respond } from './respond.ts'
import { type ServiceSpec, snapshotOf, sortRotated } from './testing.ts'
import { ZoneTable } from './zone-table.ts'

/** Both paths over one zone. `fast` is undefined when the fast one passes the message on. */
function bothPaths() {
  const zone = new ClusterZone()
  const table = new ZoneTable({ zone, log: silentLog })
  const bytes = new Uint8Array(4096)
  const finder = new AnswerFinder(table.table.memory, bytes)
  const context: Omit<ResolveContext, 'client'> = {
    zone,
    forwarder: { forward: () => emptyAnswer(rcodes.REFUSED), isReturning: () => false },
    names: undefined,
    version: undefined,
  }
  const counts = new DnsCounts()
  const resolver = { counts, resolve: (query, client) => resolveQuery(query, { ...context, client }) } as Parameters<
    typeof respond
  >[2]['options']['resolverOf'] extends (name: never) => infer R
    ? NonNullable<R>
    : never
  return {
    zone,
    table,
    fast(message: Uint8Array): Buffer | undefined {
      bytes.fill(0xaa)
      bytes.set(message, 192)
      const length = finder.answer(192, message.length)
      if (length <= 0) {
        expect(Buffer.from(bytes.subarray(192, 192 + message.length))).toEqual(Buffer.from(message))
        return undefined
      }
      return Buffer.from(bytes.subarray(192, 192 + length))
    },
    general(message: Uint8Array): Buffer | undefined {
      let response: Buffer | undefined
      const options = { resolverOf: () => resolver, counts, rotation: { next: 0 }, log: silentLog }
      respond(message, 'udp', { client: { address: '10.7.1.1', send: (sent) => (response = sent) }, options })
      return response
    },
  }
}

/** Few of everything, so that names meet. */
const label = constantFrom(
  'a',
  'b',
  'web',
  'svc',
  'pod',
  'dns',
  'ns',
  'hostmaster',
  'com',
  '_tcp',
  '_http',
  'http',
  'tcp',
  'x--1',
  '10-7-1-1',
  'db-0',
  'cluster',
  'local',
)
const name = constantFrom('a', 'b', 'web', 'svc', 'com')
const namespace = constantFrom('a', 'default', 'svc')
const address = constantFrom(
  '10.7.1.1',
  '10.7.1.2',
  '10.7.1.3',
  'db-0@10.7.2.1',
  'db-0@10.7.2.2',
  '10.7.3.1!',
  'fd00::1',
  'DB@fd00::2',
)
const service: Arbitrary<ServiceSpec> = oneof(
  recordOf({
    ips: constantFrom(['10.96.7.1'], ['10.96.7.2', 'fd00:96::2'], ['fd00:96::3']),
    ports: constantFrom(['http/tcp/80'], ['/tcp/80'], ['http/tcp/80', 'dns/udp/53']),
    endpoints: uniqueArray(address, { maxLength: 3 }),
  }),
  recordOf({
    endpoints: uniqueArray(address, { maxLength: 6 }),
    endpointPorts: constantFrom(['http/tcp/80'], [], ['http/tcp/80', 'a/tcp/81']),
  }),
  recordOf({
    endpoints: constantFrom(manyAddresses(30), manyAddresses(80)),
    endpointPorts: constant(['http/tcp/80']),
  }),
  recordOf({ externalName: constantFrom('www.example.com', 'web.default.svc.cluster.local') }),
)
const snapshot: Arbitrary<Snapshot> = dictionary(
  tuple(namespace, name).map((parts) => parts.join('/')),
  service,
  { maxKeys: 6 },
).map((services) => snapshotOf(services, { namespaces: ['empty'] }))

/** Nineteen of twenty are of the first kind. */
function mostly<T>(usual: readonly T[], rare: readonly T[]): Arbitrary<T> {
  return oneof({ weight: 19, arbitrary: constantFrom(...usual) }, { weight: 1, arbitrary: constantFrom(...rare) })
}

const question = recordOf({
  labels: oneof(
    tuple(array(label, { maxLength: 3 }), name, namespace).map(([more, own, space]) => [
      ...more,
      own,
      space,
      'svc',
      'cluster',
      'local',
    ]),
    array(label, { maxLength: 6 }).map((labels) => [...labels, 'cluster', 'local']),
    array(label, { maxLength: 4 }),
    tuple(stringMatching(/^[a-z]{1,63}$/), namespace).map(([own, space]) => [own, space, 'svc', 'cluster', 'local']),
  ),
  upper: array(nat(60), { maxLength: 5 }),
  type: mostly([1, 28, 33], [6, 16, 2, 12, 5, 65, 255, 252, 41, 257, 0]),
  class: mostly([1], [3, 255]),
  id: nat(0xffff),
  flags: mostly([0x0100, 0, 0x0120, 0x0110, 0x0130, 0x07ff], [0x8100, 0x0800]),
  edns: constantFrom(
    undefined,
    undefined,
    { size: 1232, flags: 0 },
    { size: 4096, flags: 0x8000 },
    { size: 0, flags: 0 },
    { size: 700, flags: 0x4000 },
    { size: 1232, flags: 0, version: 1 },
    { size: 1232, flags: 0, data: '000a0008c0ffee00c0ffee00' },
  ),
  tail: constantFrom('', '', '', '00', 'ffff'),
  cut: mostly([0], [1, 5]),
})

describe('AnswerFinder', () => {
  test('says to the octet what the general path says, up to the order of records, or passes on', () => {
    const seen = { answered: 0, passed: 0 }
    assert(
      property(
        array(snapshot, { minLength: 1, maxLength: 3 }),
        array(question, { minLength: 20, maxLength: 40 }),
        boolean(),
        (snapshots, questions, synced) => {
          const paths = bothPaths()
          for (const next of snapshots) {
            paths.zone.update(next, synced)
            for (const asked of questions) {
              const message = messageOf(asked)
              // The second time, what was asked for is finished.
              for (const _ of [1, 2]) {
                const fast = paths.fast(message)
                const general = paths.general(message)
                if (fast) {
                  seen.answered++
                  expect(sortRotated(fast)).toEqual(sortRotated(general ?? Buffer.alloc(0)))
                } else seen.passed++
                paths.table.learn(keyOf(asked.labels), asked.type)
              }
            }
          }
        },
      ),
      { numRuns: 60 },
    )
    expect(seen.answered).toBeGreaterThan(seen.passed / 20)
  }, 60_000)

  test.each([
    ['a Service', 'web.default', 1],
    ['a name that does not exist', 'nobody.default', 1],
    ['a type that a name does not have', 'web.default', 28],
    ['a Service by SRV', 'web.default', 33],
    ['a type that an endpoint does not have', '10-7-1-1.web.default', 28],
    ['a name between names', '_tcp.web.default', 1],
    ['a port', '_http._tcp.web.default', 33],
    ['an endpoint', '10-7-1-1.web.default', 1],
    ['a headless Service', 'peers.default', 1],
    ['a namespace', 'default', 1],
    ['a namespace that does not exist', 'nowhere', 1],
    ['a name of the search path', 'www.example.com.default', 1],
  ])('answers %s itself', (_, text, type) => {
    const paths = bothPaths()
    paths.zone.update(
      snapshotOf({
        'default/web': { ips: ['10.96.7.1'], ports: ['http/tcp/80'], endpoints: ['10.7.1.1'] },
        'default/peers': { endpoints: ['10.7.1.1', '10.7.1.2'] },
      }),
      true,
    )
    const labels = [...text.split('.'), 'svc', 'cluster', 'local']
    paths.table.learn(keyOf(labels), type)
    const message = messageOf({
      labels,
      type,
      class: 1,
      id: 7,
      flags: 0x100,
      upper: [1],
      edns: undefined,
      tail: '',
      cut: 0,
    })
    const [fast, general] = [paths.fast(message), paths.general(message)]
    expect(fast && sortRotated(fast)).toEqual(general && sortRotated(general))
  })

  test('gives the records of a set in another order each time', () => {
    const paths = bothPaths()
    paths.zone.update(snapshotOf({ 'default/peers': { endpoints: ['10.7.1.1', '10.7.1.2', '10.7.1.3'] } }), true)
    const labels = ['peers', 'default', 'svc', 'cluster', 'local']
    paths.table.learn(keyOf(labels), 1)
    const message = messageOf({
      labels,
      type: 1,
      class: 1,
      id: 7,
      flags: 0x100,
      upper: [],
      edns: undefined,
      tail: '',
      cut: 0,
    })
    const answers = new Set(Array.from({ length: 3 }, () => paths.fast(message)?.toString('hex')))
    expect(answers.size).toBe(3)
  })

  test('passes all on when there is no memory for the answers', () => {
    const zone = new ClusterZone()
    const table = new ZoneTable({ zone, log: silentLog, limit: 4096 })
    const services = Array.from({ length: 100 }, (_, i) => [`default/web-${i}`, { ips: ['10.96.7.1'] }] as const)
    zone.update(snapshotOf(Object.fromEntries(services)), true)
    const message = messageOf({
      labels: ['nobody', 'default', 'svc', 'cluster', 'local'],
      type: 1,
      class: 1,
      id: 7,
      flags: 0,
      upper: [],
      edns: undefined,
      tail: '',
      cut: 0,
    })
    const bytes = new Uint8Array(4096)
    bytes.set(message)
    expect(new AnswerFinder(table.table.memory, bytes).answer(0, message.length)).toBe(0)
    expect(table.table.isFull).toBe(true)
  })
})

function keyOf(labels: readonly string[]): string {
  return `${labels.map((label) => String.fromCharCode(label.length) + label.toLowerCase()).join('')}\0`
}

interface AskedQuestion {
  readonly labels: readonly string[]
  readonly upper: readonly number[]
  readonly type: number
  readonly class: number
  readonly id: number
  readonly flags: number
  readonly edns:
    | { readonly size: number; readonly flags: number; readonly version?: number; readonly data?: string }
    | undefined
  readonly tail: string
  readonly cut: number
}

function messageOf(asked: AskedQuestion): Buffer {
  const { id, flags, edns } = asked
  const header = Buffer.from([id >> 8, id & 0xff, flags >> 8, flags & 0xff, 0, 1, 0, 0, 0, 0, 0, edns ? 1 : 0])
  const wire = Buffer.from(keyOf(asked.labels), 'latin1')
  for (const at of asked.upper) {
    const octet = wire[at] ?? 0
    if (octet >= 0x61 && octet <= 0x7a) wire[at] = octet - 0x20
  }
  const end = Buffer.from([asked.type >> 8, asked.type & 0xff, 0, asked.class])
  const data = Buffer.from(edns?.data ?? '', 'hex')
  const opt = edns
    ? Buffer.from([
        0,
        0,
        41,
        edns.size >> 8,
        edns.size & 0xff,
        0,
        edns.version ?? 0,
        edns.flags >> 8,
        edns.flags & 0xff,
        0,
        data.length,
        ...data,
      ])
    : Buffer.alloc(0)
  const message = Buffer.concat([header, wire, end, opt, Buffer.from(asked.tail, 'hex')])
  return message.subarray(0, message.length - asked.cut)
}

function manyAddresses(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `10.8.0.${i + 1}`)
}
