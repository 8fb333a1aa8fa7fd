import { join } from 'node:path'
import type { AddressInfo } from 'node:net'
import { ApiServer } from '../src/api/api-server.ts'
import { openCredentials, writeKubeconfig } from '../src/api/credentials.ts'
import { qualifiedName, resourceTypeOf } from '../src/api/resources.ts'
import type { Target, WriteOptions } from '../src/api/kube-api.ts'
import { systemClock } from '../src/base/clock.ts'
import { silentLog } from '../src/base/log.ts'
import { parseCidr } from '../src/net/cidr.ts'
import { benchService, benchSlice } from './api-objects.ts'

/** What the server's process says once it has its objects. */
export interface ApiServerFigures {
  /** From an empty file until all objects were written and acknowledged, ms. */
  readonly seededMs: number
  /** RSS after garbage collection over that of the empty server, bytes. */
  readonly rss: number
  readonly heap: number
  readonly port: number
}

/** Told as words: the folder, the number of Services, and of endpoints of each. */
const [folder = '', services = '0', endpoints = '0'] = process.argv.slice(2)

const server = await ApiServer.open({
  file: join(folder, 'objects.db'),
  claims: { serviceCIDRs: [parseCidr('10.96.0.0/12')] },
  clock: systemClock,
  log: silentLog,
  version: 'bench',
})
const credentials = openCredentials(folder, { hosts: ['127.0.0.1'], now: new Date() })
const listener = server.createListener((request) => credentials.authenticate(request), credentials.server)
await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
const { port } = listener.address() as AddressInfo
writeKubeconfig(join(folder, 'kubeconfig'), {
  url: `https://127.0.0.1:${port}`,
  authority: credentials.authority,
  token: credentials.tokens.admin,
})

global.gc?.()
const before = process.memoryUsage()
const began = performance.now()
const options = (): WriteOptions => ({
  fieldManager: 'bench',
  fieldValidation: 'Strict',
  dryRun: false,
  warnings: [],
})
const of = (kind: string, name = ''): Target => ({
  type: resourceTypeOf(kind),
  namespace: 'default',
  name,
  subresource: '',
})
for (let from = 0; from < Number(services); from += 100) {
  const some = Array.from({ length: Math.min(100, Number(services) - from) }, (_, i) => from + i)
  await Promise.all(
    some.flatMap((index) => [
      server.api.create(of('Service'), benchService(index), options()),
      server.api.create(of('EndpointSlice'), benchSlice(index, Number(endpoints), 0), options()),
    ]),
  )
}
const seededMs = performance.now() - began
global.gc?.()
const after = process.memoryUsage()
const figures: ApiServerFigures = {
  seededMs,
  rss: after.rss - before.rss,
  heap: after.heapUsed - before.heapUsed,
  port,
}

const slices = qualifiedName(resourceTypeOf('EndpointSlice'))
let committed: Record<string, number> | undefined
server.store.subscribe((events) => {
  const now = performance.timeOrigin + performance.now()
  for (const { resource, object } of events) if (resource === slices && committed) committed[object.metadata.name] = now
})
process.on('message', (message: { readonly changes: number; readonly round: number } | 'cpu') => {
  if (message === 'cpu') process.send?.({ cpu: process.cpuUsage(), rss: process.memoryUsage.rss() })
  else void change(message.changes, message.round)
})
process.send?.({ figures })

/** Changes as many slices, each once, 1000 a second, evenly; says when each was begun and when it was on the disk. */
async function change(changes: number, round: number): Promise<void> {
  const start = performance.now()
  const begun: Record<string, number> = {}
  const writes: Promise<unknown>[] = []
  committed = {}
  for (let index = 0; index < changes;) {
    const due = Math.min(changes, Math.ceil(performance.now() - start))
    for (; index < due; index++) {
      const body = benchSlice(index, Number(endpoints), round)
      begun[body.metadata.name] = performance.timeOrigin + performance.now()
      writes.push(server.api.update(of('EndpointSlice', body.metadata.name), body, options()))
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await Promise.all(writes)
  process.send?.({ begun, committed })
  committed = undefined
}
