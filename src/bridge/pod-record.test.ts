import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { parsePort } from '../net/port.ts'
import { formatResolvConf, podModel } from './pod-model.ts'
import { PodStore, type PodRecord } from './pod-record.ts'
import { checkPodSpec, PodError } from './pod-spec.ts'

const record: PodRecord = {
  namespace: 'default',
  name: 'web-1',
  labels: { app: 'web' },
  network: 'default',
  command: ['server', '--port', '80'],
  ports: [{ name: 'http', protocol: 'tcp', port: parsePort(80) }],
  bootId: 'boot',
  started: '2026-01-01T00:00:00.000Z',
  phase: 'created',
  process: { pid: 42, startTime: '4711' },
  exit: undefined,
}
const lease = {
  owner: 'pod default/web-1',
  network: 'default',
  ips: [parseIp('10.7.0.2')],
  mac: parseMac('02:00:00:00:00:02'),
  netns: '/run/netns/fl-default.web-1',
  bootId: 'boot',
} as const

describe('PodStore', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fairlead-pod-store-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  test('gives back what was put, until it is deleted', () => {
    const store = PodStore.open(folder, silentLog)
    store.put(record)
    expect([...PodStore.open(folder, silentLog).records.values()]).toEqual([record])
    store.delete(record)
    expect(PodStore.open(folder, silentLog).records.size).toBe(0)
  })

  test.each([
    ['no record', undefined],
    ['half a record', '{"namespace": "def'],
    ['a record without a phase', JSON.stringify({ ...record, phase: undefined })],
    [
      'a record with a port that is none',
      JSON.stringify({ ...record, ports: [{ name: 'x', protocol: 'tcp', port: 0 }] }),
    ],
    ['something else', '[]'],
    ['null', 'null'],
  ])('removes a folder with %s', (_, text) => {
    const pod = join(folder, 'default.web-1')
    mkdirSync(pod)
    if (text !== undefined) writeFileSync(join(pod, 'pod.json'), text)
    expect(PodStore.open(folder, silentLog).records.size).toBe(0)
    expect(existsSync(pod)).toBe(false)
  })
})

test.each([
  [undefined, 'Running', true],
  [{ code: 0, time: '' }, 'Succeeded', false],
  [{ code: 1, time: '' }, 'Failed', false],
  [{ code: undefined, time: '' }, 'Failed', false],
] as const)('podModel() of a pod with exit %j is %s', (exit, phase, ready) => {
  expect(podModel({ ...record, exit }, { leases: [lease], nodeName: 'n' })).toMatchObject({
    phase,
    ready,
    nodeName: 'n',
    podIPs: ['10.7.0.2'],
    ports: record.ports,
  })
})

test('podModel() gives one address per family, of the first network that has one', () => {
  const leases = [['10.1.0.2'], ['10.2.0.2', 'fd02::2'], ['fd03::2']].map((ips) => ({ ips: ips.map(parseIp) }))
  expect(podModel(record, { leases, nodeName: 'n' }).podIPs).toEqual(['10.1.0.2', 'fd02::2'])
})

test('formatResolvConf() searches the namespace, then Services, then the zone', () => {
  const dns = { addresses: [parseIp('10.96.0.10'), parseIp('fd00::a')], zone: 'cluster.local' }
  expect(formatResolvConf('shop', dns)).toBe(
    'nameserver 10.96.0.10\nnameserver fd00::a\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n',
  )
})

test.each<[object, string]>([
  [{ name: 'Web' }, 'name: "Web" is not a name'],
  [{ name: 'a.b' }, 'name: "a.b" is not a name'],
  [{ name: '../../etc' }, 'name: "../../etc" is not a name'],
  [{ namespace: '' }, 'namespace: "" is not a name'],
  [{ labels: { 'a b': '' } }, 'label "a b": not a key'],
  [{ labels: { a: 'b c' } }, 'label a: "b c" is not a value'],
  [{ command: ['a\0b'] }, 'command: expected words without NUL'],
  [{ aliases: ['db', 'a.b'] }, 'alias: "a.b" is not a name'],
  [{ command: [''] }, 'command: expected words without NUL, the first not empty'],
])('checkPodSpec() refuses %j', (change, message) => {
  const check = (): void => checkPodSpec({ ...record, ...change })
  expect(check).toThrow(PodError)
  expect(check).toThrow(message)
})
