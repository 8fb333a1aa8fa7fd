import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { ObjectKey } from '../model/object-key.ts'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import type { Frontend, ServiceFrontends } from './frontends.ts'
import { HealthCheckServers } from './health-check-servers.ts'

function serversAt(hosts: { 4: string[]; 6: string[] }) {
  const state = { healthy: true, hosts }
  const clock = new FakeClock()
  const servers = new HealthCheckServers({
    log: silentLog,
    clock,
    isHealthy: () => state.healthy,
    addresses: (family) => state.hosts[family].map(parseIp),
  })
  onTestFinished(() => servers[Symbol.asyncDispose]())
  return { servers, state, clock }
}

/** A port that nobody listens on at the moment. */
async function freePort(): Promise<number> {
  const { server, port } = await taken()
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function taken(): Promise<{ server: Server; port: number }> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { server, port: (server.address() as AddressInfo).port }
}

function services(...list: readonly { key: ObjectKey; port: number; local: number }[]): SharedMap<ServiceFrontends> {
  return SharedMap.empty<ServiceFrontends>().with(
    list.map(({ key, port, local }) => [
      key,
      {
        key,
        creationTimestamp: undefined,
        frontends: [{ family: 4 } as Frontend],
        health: { nodePort: parsePort(port), localEndpoints: { 4: local, 6: 0 } },
        problems: [],
      },
    ]),
  )
}

async function ask(
  port: number,
  path = '/',
): Promise<{ status: number; weight: string | null; body: string } | string> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}${path}`)
    const weight = response.headers.get('x-load-balancing-endpoint-weight')
    return { status: response.status, weight, body: await response.text() }
  } catch (error) {
    return (error as Error & { cause: { code: string } }).cause.code
  }
}

/** listen(2) ends in a later turn of the event loop. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 30))

test("HealthCheckServers answers with kube-proxy's body and headers, at every path", async () => {
  const { servers, state } = serversAt({ 4: ['127.0.0.1'], 6: [] })
  const port = await freePort()
  servers.update(services({ key: 'shop/web', port, local: 2 }))
  await settled()
  const body = (count: number, healthy: boolean): string =>
    `{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "web"\n\t},\n\t"localEndpoints": ${count},\n\t"serviceProxyHealthy": ${healthy}\n}`
  expect(await ask(port, '/any?path')).toEqual({ status: 200, weight: '2', body: body(2, true) })
  servers.update(services({ key: 'shop/web', port, local: 0 }))
  expect(await ask(port)).toEqual({ status: 503, weight: '0', body: body(0, true) })
  servers.update(services({ key: 'shop/web', port, local: 1 }))
  state.healthy = false
  expect(await ask(port)).toEqual({ status: 503, weight: '1', body: body(1, false) })
})

test('HealthCheckServers closes what no Service wants, and follows the addresses', async () => {
  const { servers, state } = serversAt({ 4: ['127.0.0.1'], 6: ['::1'] })
  const port = await freePort()
  servers.update(services({ key: 'a/a', port, local: 1 }))
  await settled()
  expect(await ask(port)).toMatchObject({ status: 200 })
  state.hosts = { 4: ['127.0.0.2'], 6: [] }
  servers.update(services({ key: 'a/a', port, local: 1 }))
  await settled()
  expect(await ask(port)).toBe('ECONNREFUSED')
  state.hosts = { 4: ['127.0.0.1'], 6: [] }
  servers.update(services({ key: 'a/a', port, local: 1 }))
  await settled()
  expect(await ask(port)).toMatchObject({ status: 200 })
  servers.update(services())
  await settled()
  expect(await ask(port)).toBe('ECONNREFUSED')
})

test('HealthCheckServers tries a port again that somebody else has', async () => {
  const { servers, clock } = serversAt({ 4: ['127.0.0.1'], 6: [] })
  const { server, port } = await taken()
  servers.update(services({ key: 'a/a', port, local: 1 }))
  await settled()
  expect(servers.problems).toEqual([
    `a/a: spec.healthCheckNodePort: cannot listen on 127.0.0.1 port ${port}: EADDRINUSE`,
  ])
  await new Promise((resolve) => server.close(resolve))
  await clock.advance(5000)
  await settled()
  expect(await ask(port)).toMatchObject({ status: 200 })
  expect(servers.problems).toEqual([])
})
