import { once } from 'node:events'
import { createServer } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { parseReadinessProbe } from './readiness-probe.ts'
import { runProbe } from './run-probe.ts'

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

async function listen(server: Server): Promise<number> {
  servers.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

const ask = (probe: object): Promise<string | undefined> => runProbe(parseReadinessProbe(probe), parseIp('127.0.0.1'))

test('runProbe() connects, and lets go', async () => {
  const server = createTcpServer()
  const closed = once(server, 'connection').then(([socket]) => once(socket.resume(), 'close'))
  const port = await listen(server)
  expect(await ask({ tcpSocket: { port } })).toBeUndefined()
  await closed
  server.close()
  await once(server, 'close')
  expect(await ask({ tcpSocket: { port } })).toBe('connect ECONNREFUSED')
  expect(await ask({ httpGet: { port } })).toBe('connect ECONNREFUSED')
})

test.each([
  [200, undefined],
  [302, undefined],
  [399, undefined],
  [400, 'status 400'],
  [503, 'status 503'],
])('runProbe() has status %i as %s, and asks for the path', async (status, reason) => {
  const seen: string[] = []
  const port = await listen(
    createServer((request, response) => {
      seen.push(`${request.method} ${request.url}`)
      response.writeHead(status, { location: 'http://127.0.0.1:1/' }).end('x'.repeat(100_000))
    }),
  )
  expect(await ask({ httpGet: { path: '/ok?x=1', port } })).toBe(reason)
  expect(seen).toEqual(['GET /ok?x=1'])
})

test('runProbe() does not wait longer than the timeout for an answer', async () => {
  const server = createTcpServer((socket) => socket.resume())
  const port = await listen(server)
  expect(await ask({ httpGet: { port }, timeoutSeconds: 1 })).toBe('no answer within 1 s')
})
