import { createServer } from 'node:net'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { createCoreDnsMetrics } from './coredns-metrics.ts'
import { DnsHttp } from './dns-http.ts'

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : 0
}

const get = async (port: number, path: string) => {
  const response = await fetch(`http://127.0.0.1:${port}${path}`)
  return `${response.status} ${await response.text()}`
}

test('DnsHttp answers as CoreDNS does, moves, and says when a port is taken', async () => {
  let waiting: readonly string[] = ['kubernetes']
  const metrics = createCoreDnsMetrics('1', () => [])
  await using http = new DnsHttp({ metrics, waitingFor: () => waiting, log: silentLog })
  const [ready, health, moved] = [await freePort(), await freePort(), await freePort()]
  const at = (kind: 'ready' | 'health', port: number) => ({
    kind,
    listen: { host: '127.0.0.1', port },
    key: `dns.${kind}Listen`,
  })
  await http.configure([at('ready', ready), at('health', health)])
  expect(await get(ready, '/ready')).toBe('503 kubernetes')
  waiting = []
  expect(await get(ready, '/ready')).toBe('200 OK')
  expect(await get(health, '/health')).toBe('200 OK')

  const other = createServer().listen(moved, '127.0.0.1')
  await once(other, 'listening')
  await expect(http.configure([at('ready', moved)])).rejects.toThrow(
    `dns.readyListen: cannot listen on 127.0.0.1:${moved}: another program already listens there`,
  )
  // Nothing changed.
  expect(await get(ready, '/ready')).toBe('200 OK')
  other.close()
  await once(other, 'close')
  await http.configure([at('ready', moved)])
  expect(await get(moved, '/ready')).toBe('200 OK')
  await expect(get(health, '/health')).rejects.toThrow('fetch failed')
  http.end()
  expect(await get(moved, '/ready')).toBe('503 Shutting down')
})
