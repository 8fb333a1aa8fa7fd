/**
 * The control plane of a run, as one process: the embedded API server over TLS with the objects of a folder of manifests and a Node. Told as
 * words: the folder of its state, that of the manifests, its port, and the addresses that it is reached at.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadAll } from 'js-yaml'
import { ApiServer } from '../src/api/api-server.ts'
import { openCredentials } from '../src/api/credentials.ts'
import type { Target, WriteOptions } from '../src/api/kube-api.ts'
import { resourceTypeOf } from '../src/api/resources.ts'
import { systemClock } from '../src/base/clock.ts'
import { silentLog } from '../src/base/log.ts'
import { parseCidr } from '../src/net/cidr.ts'
import type { PlaneChanged, PlaneReady, PlaneTask } from './api-plane-task.ts'

interface Manifest {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
}

const [folder = '', manifests = '', port = '', ...hosts] = process.argv.slice(2)
const server = await ApiServer.open({
  // Nothing is to be kept, and the disk is not what is measured.
  file: ':memory:',
  claims: { serviceCIDRs: [parseCidr('10.96.0.0/12')] },
  clock: systemClock,
  log: silentLog,
  version: 'bench',
})
const credentials = openCredentials(folder, { hosts, now: new Date() })
const listener = server.createListener((request) => credentials.authenticate(request), credentials.server)
await new Promise<void>((resolve) => listener.listen(Number(port), '0.0.0.0', resolve))

await create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'bench' } })
await create({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'node-1' },
  status: { addresses: [{ type: 'InternalIP', address: '172.17.0.1' }] },
})
for (const file of readdirSync(manifests)) {
  await Promise.all(readManifests(join(manifests, file)).map(create))
}
const ready: PlaneReady = { authority: credentials.authority, token: credentials.tokens.admin }
process.send?.(ready)

process.on('message', (task: PlaneTask) => void apply(task))
process.on('disconnect', () => process.exit(0))

/** Writes all objects of the files at once, and says when the last of them was there for watchers. */
async function apply({ file }: PlaneTask): Promise<void> {
  const objects = readManifests(file)
  await Promise.all(objects.map((object) => server.api.update(targetOf(object), object, writeOptions())))
  const done: PlaneChanged = { atNs: String(process.hrtime.bigint()), objects: objects.length }
  process.send?.(done)
}

function readManifests(file: string): Manifest[] {
  return loadAll(readFileSync(file, 'utf8')) as Manifest[]
}

async function create(object: object): Promise<void> {
  await server.api.create({ ...targetOf(object as Manifest), name: '' }, object, writeOptions())
}

function targetOf({ kind, metadata }: Manifest): Target {
  return { type: resourceTypeOf(kind), namespace: metadata.namespace ?? '', name: metadata.name, subresource: '' }
}

function writeOptions(): WriteOptions {
  return { fieldManager: 'bench', fieldValidation: 'Strict', dryRun: false, warnings: [] }
}
