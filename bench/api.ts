import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { WriteFigures } from './api-clients.ts'
import type { ApiServerFigures } from './api-server.ts'
import type { FollowFigures } from './follow-client.ts'
import { scriptBeside } from './script-beside.ts'

/** The embedded API under load, and a source that follows it. */
export interface ApiResult {
  readonly services: number
  readonly endpoints: number
  readonly server: ApiServerFigures
  /** One list of all EndpointSlices. */
  readonly list: { readonly ms: number; readonly bytes: number }
  /** The source, over TLS by watch-list. */
  readonly source: FollowFigures
  /** 1,000 changes a second: from the write's beginning, and from its commit, until the source's snapshot has it, ms. */
  readonly fromWrite: Percentiles
  readonly fromCommit: Percentiles
  /** Writes by PUT over TLS, each acknowledged when it is on the disk, with so many watchers of all that is written. */
  readonly writes: readonly (WriteFigures & {
    readonly watchers: number
    readonly lanes: number
    readonly cpuMs: number
  })[]
  /** RSS of the server's process after all of it. */
  readonly serverRssAfter: number
}

/** Of delays, ms. */
export interface Percentiles {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

const watchers = 100
const lanes = 64
const writeMs = 5000

/** Measures with processes of their own for the server, the source, and all other clients. */
export async function runApi(
  set: { readonly services: number; readonly endpointsEach: number },
  progress: (text: string) => void,
): Promise<ApiResult> {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-bench-'))
  const words = [String(set.services), String(set.endpointsEach)]
  await using stack = new AsyncDisposableStack()
  stack.defer(() => rmSync(folder, { recursive: true, force: true }))
  progress(`${set.services} Services, ${set.endpointsEach} endpoints each, are written`)
  const child = start(stack, 'api-server', folder, ...words)
  const { figures: server } = await answer<{ figures: ApiServerFigures }>(child)
  progress('a source follows')
  const client = start(stack, 'follow-client', join(folder, 'kubeconfig'))
  const { figures: source } = await answer<{ figures: FollowFigures }>(client)
  progress('1,000 changes a second')
  const delays = await changes(child, client, Math.min(set.services, 5000))
  client.kill()
  progress('clients write')
  const clients = start(stack, 'api-clients', folder, String(server.port), ...words)
  await answer(clients)
  const alone = await writes(child, clients, 0)
  clients.send({ watchers })
  const { list } = await answer<{ list: ApiResult['list'] }>(clients)
  await answer(clients)
  const watched = await writes(child, clients, watchers)
  const { rss: serverRssAfter } = await usage(child)
  return {
    services: set.services,
    endpoints: set.endpointsEach,
    server,
    list,
    source,
    ...delays,
    writes: [alone, watched],
    serverRssAfter,
  }
}

async function changes(
  server: ChildProcess,
  client: ChildProcess,
  count: number,
): Promise<Pick<ApiResult, 'fromWrite' | 'fromCommit'>> {
  server.send({ changes: count, round: 1 })
  const { begun, committed } = await answer<Record<'begun' | 'committed', Record<string, number>>>(server)
  await new Promise((resolve) => setTimeout(resolve, 1000))
  client.send('arrived')
  const { arrived } = await answer<{ arrived: Record<string, number> }>(client)
  const since = (from: Readonly<Record<string, number>>): Percentiles =>
    percentiles(
      Object.entries(from).map(
        ([slice, time]) => (arrived[`default/${slice.replace(/-x7k2p$/, '')}`] ?? Number.POSITIVE_INFINITY) - time,
      ),
    )
  return { fromWrite: since(begun), fromCommit: since(committed) }
}

async function writes(server: ChildProcess, clients: ChildProcess, watching: number): Promise<ApiResult['writes'][0]> {
  const before = await usage(server)
  clients.send({ lanes, ms: writeMs })
  const { figures } = await answer<{ figures: WriteFigures }>(clients)
  const { cpu } = await usage(server)
  const cpuMs = (cpu.user + cpu.system - before.cpu.user - before.cpu.system) / 1000
  return { ...figures, watchers: watching, lanes, cpuMs }
}

async function usage(server: ChildProcess): Promise<{ cpu: NodeJS.CpuUsage; rss: number }> {
  server.send('cpu')
  return answer(server)
}

function percentiles(values: readonly number[]): Percentiles {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (share: number): number => sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}

function start(stack: AsyncDisposableStack, script: string, ...words: readonly string[]): ChildProcess {
  const child = fork(scriptBeside(import.meta.url, script), words, { execArgv: ['--expose-gc'] })
  stack.defer(() => void child.kill('SIGKILL'))
  return child
}

async function answer<T>(child: ChildProcess): Promise<T> {
  const [message] = (await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => Promise.reject(new Error('a process of the benchmark ended'))),
  ])) as [T]
  return message
}
