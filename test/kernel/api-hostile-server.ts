import { join } from 'node:path'
import type { AddressInfo, Server } from 'node:net'
import { ApiServer } from '../../src/api/api-server.ts'
import { openCredentials } from '../../src/api/credentials.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { parseCidr } from '../../src/net/cidr.ts'

// Run by api-hostile.test.ts as a process of its own: what is done to it must not be done to the test, and its memory is its own.
const [folder = ''] = process.argv.slice(2)
const server = await ApiServer.open({
  file: join(folder, 'objects.db'),
  claims: { serviceCIDRs: [parseCidr('10.96.0.0/16')] },
  clock: systemClock,
  log: silentLog,
  version: 'test',
  patienceMs: 1500,
})
const credentials = openCredentials(folder, { hosts: ['127.0.0.1'], now: new Date() })
const remote = server.createListener((request) => credentials.authenticate(request), credentials.server)
const local = server.createListener((request) => credentials.authenticate(request))
const ports = [await listen(remote), await listen(local)]
process.on('message', (message) => void (message === 'state' ? tellState() : close()))
process.send?.({ ports, tokens: credentials.tokens })

async function listen(listener: Server): Promise<number> {
  await new Promise<void>((resolve) => listener.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, resolve))
  return (listener.address() as AddressInfo).port
}

async function tellState(): Promise<void> {
  global.gc?.()
  const connections = await new Promise<number>((resolve) => local.getConnections((_, count) => resolve(count)))
  const { size: watchers, dropped } = server.hub
  process.send?.({ rss: process.memoryUsage.rss(), connections, watchers, dropped })
}

async function close(): Promise<void> {
  const began = performance.now()
  for (const listener of [remote, local]) {
    const closed = new Promise((resolve) => listener.close(resolve))
    listener.closeAllConnections()
    await closed
  }
  server[Symbol.dispose]()
  process.send?.({ closedMs: performance.now() - began })
  process.disconnect()
}
