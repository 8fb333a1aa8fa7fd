import type { AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { ApiServer } from './api-server.ts'
import { fromCoreEvent, toCoreEvent } from './events-group.ts'

const core = '/api/v1/namespaces/default/events'
const events = '/apis/events.k8s.io/v1/namespaces/default/events'

async function openApi() {
  const claims = { serviceCIDRs: [], loadBalancerCIDRs: [] }
  const server = await ApiServer.open({ file: ':memory:', claims, clock: systemClock, log: silentLog, version: 'test' })
  const listener = server.createListener(() => 'admin')
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(listener.address() as AddressInfo).port}`
  return {
    async call(method: string, path: string, body?: string | Buffer<ArrayBuffer>, type = 'application/json') {
      const init = { method, headers: { 'content-type': type }, ...(body !== undefined && { body }) }
      const response = await fetch(url + path, init)
      return { status: response.status, body: JSON.parse(await response.text()) as Record<string, unknown> }
    },
    async [Symbol.asyncDispose]() {
      server[Symbol.dispose]()
      listener.closeAllConnections()
      await new Promise((resolve) => listener.close(resolve))
    },
  }
}

/** Fields of protobuf: texts and messages by their number, numbers as varints. */
function message(fields: Readonly<Record<number, string | number | Buffer>>): Buffer<ArrayBuffer> {
  const parts = Object.entries(fields).map(([number, value]) => {
    if (typeof value === 'number') return Buffer.from([Number(number) << 3, ...varint(value)])
    const bytes = Buffer.from(value as string)
    return Buffer.concat([Buffer.from([(Number(number) << 3) | 2, ...varint(bytes.length)]), bytes])
  })
  return Buffer.concat(parts)
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))]
}

test('events.k8s.io takes what kube-proxy writes when it starts, and the core group has it', async () => {
  await using api = await openApi()
  const raw = message({
    1: message({ 1: 'node-1.18ea', 3: 'default' }),
    2: message({ 1: 1_795_285_727, 2: 886_062_768 }),
    4: 'kube-proxy',
    5: 'kube-proxy-vm',
    6: 'StartKubeProxy',
    7: 'Starting',
    8: message({ 1: 'Node', 3: 'node-1', 5: 'v1' }),
    11: 'Normal',
    12: message({}),
    13: message({}),
  })
  const unknown = message({ 1: message({ 1: 'events.k8s.io/v1', 2: 'Event' }), 2: raw })
  const body = Buffer.concat([Buffer.from('k8s\0', 'latin1'), unknown])
  const made = await api.call('POST', events, body, 'application/vnd.kubernetes.protobuf')
  expect(made).toMatchObject({
    status: 201,
    body: {
      apiVersion: 'events.k8s.io/v1',
      regarding: { kind: 'Node', name: 'node-1' },
      reportingController: 'kube-proxy',
    },
  })
  expect((await api.call('GET', `${core}/node-1.18ea`)).body).toMatchObject({
    apiVersion: 'v1',
    kind: 'Event',
    eventTime: '2026-11-21T18:28:47.886062Z',
    involvedObject: { kind: 'Node', name: 'node-1', apiVersion: 'v1' },
    reportingComponent: 'kube-proxy',
    action: 'StartKubeProxy',
    reason: 'Starting',
  })
})

test('events.k8s.io lists, watches and patches the Events of the core group in its own words', async () => {
  await using api = await openApi()
  const event = {
    metadata: { name: 'e' },
    involvedObject: { kind: 'Pod', name: 'p', namespace: 'default' },
    message: 'm',
  }
  await api.call('POST', core, JSON.stringify(event))
  const list = await api.call('GET', events)
  expect(list.body).toMatchObject({ kind: 'EventList', apiVersion: 'events.k8s.io/v1', items: [{ note: 'm' }] })
  const patch = JSON.stringify({ note: 'n', series: { count: 2 } })
  const patched = await api.call('PATCH', `${events}/e`, patch, 'application/strategic-merge-patch+json')
  expect(patched.body).toMatchObject({ note: 'n', series: { count: 2 } })
  expect((await api.call('GET', `${core}/e`)).body).toMatchObject({ message: 'n' })
  const { body } = await api.call('GET', '/apis/events.k8s.io/v1')
  expect(body).toMatchObject({ groupVersion: 'events.k8s.io/v1', resources: [{ name: 'events', kind: 'Event' }] })
})

test("toCoreEvent() and fromCoreEvent() are each other's way back, and leave other things alone", () => {
  const event = { apiVersion: 'events.k8s.io/v1', note: 'n', deprecatedCount: 2, type: 'Normal' }
  expect(fromCoreEvent(toCoreEvent(event) as object)).toEqual(event)
  expect(toCoreEvent([{ op: 'add' }])).toEqual([{ op: 'add' }])
})
