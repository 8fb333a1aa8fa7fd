import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatTable } from '../src/cli/table.ts'
import type { FollowFigures } from './follow-client.ts'
import type { MachineFacts } from './machine.ts'
import { scriptBeside } from './script-beside.ts'

/** Following an API server: its list, then changes at 1000 a second. */
export interface FollowResult extends FollowFigures {
  /** How the list came. */
  readonly by: 'watch-list' | 'list'
  readonly changes: number
  /** From the moment that the server had a change until it was in a snapshot, ms. */
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** Measures with a server process and a following process of their own, once for each way to list. */
export async function runFollow(
  set: { readonly services: number; readonly endpointsEach: number },
  progress: (text: string) => void,
): Promise<FollowResult[]> {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-bench-'))
  progress(`follow: ${set.services} Services, ${set.endpointsEach} endpoints each`)
  const server = start('follow-server', String(set.services), String(set.endpointsEach))
  try {
    const { address } = await answer<{ address: string }>(server)
    const kubeconfig = join(folder, 'kubeconfig')
    const cluster = { name: 'c', cluster: { server: `http://${address}` } }
    const contexts = [{ name: 'x', context: { cluster: 'c' } }]
    writeFileSync(kubeconfig, JSON.stringify({ 'current-context': 'x', contexts, clusters: [cluster] }))
    const results: FollowResult[] = []
    for (const by of ['watch-list', 'list'] as const) {
      server.send({ watchList: by === 'watch-list' })
      await answer(server)
      results.push(await measure(server, { kubeconfig, by, round: results.length + 1, services: set.services }))
    }
    return results
  } finally {
    server.kill()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function measure(
  server: ChildProcess,
  { kubeconfig, by, round, services }: { kubeconfig: string; by: FollowResult['by']; round: number; services: number },
): Promise<FollowResult> {
  const client = start('follow-client', kubeconfig)
  try {
    const { figures } = await answer<{ figures: FollowFigures }>(client)
    const changes = Math.min(services, 5000)
    server.send({ changes, round })
    const { sent } = await answer<{ sent: number[] }>(server)
    await new Promise((resolve) => setTimeout(resolve, 1000))
    client.send('arrived')
    const { arrived } = await answer<{ arrived: Record<string, number> }>(client)
    const delays = sent
      .map((time, index) => (arrived[`bench/service-${index}`] ?? Number.POSITIVE_INFINITY) - time)
      .toSorted((a, b) => a - b)
    const at = (share: number): number => delays[Math.floor(share * (delays.length - 1))] ?? Number.NaN
    return { ...figures, by, changes, p50: at(0.5), p99: at(0.99), max: at(1) }
  } finally {
    client.kill()
  }
}

function start(script: string, ...words: readonly string[]): ChildProcess {
  return fork(scriptBeside(import.meta.url, script), words, { execArgv: ['--expose-gc'] })
}

async function answer<T>(child: ChildProcess): Promise<T> {
  const [message] = (await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => Promise.reject(new Error('a process of the benchmark ended'))),
  ])) as [T]
  return message
}

/** The result for people, and whether it keeps what is promised: 2 s, 150 MB, 20 ms. */
export function formatFollow(machine: MachineFacts, results: readonly FollowResult[]): string {
  const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`
  const ms = (value: number): string => `${value.toFixed(1)} ms`
  const rows = results.map((result) => [
    result.by,
    String(result.services),
    String(result.endpoints),
    ms(result.firstSnapshotMs),
    ms(result.cpuMs),
    ms(result.longestStretchMs),
    mb(result.rss),
    mb(result.peakRss),
    mb(result.heap),
    `${ms(result.p50)} / ${ms(result.p99)} / ${ms(result.max)}`,
  ])
  const head = [
    'list by',
    'Services',
    'endpoints',
    'first snapshot',
    'CPU',
    'stretch',
    'RSS',
    'peak',
    'heap',
    'p50 / p99 / max',
  ]
  const kept = results.every(
    ({ firstSnapshotMs, peakRss, p99 }) => firstSnapshotMs <= 2000 && peakRss <= 150e6 && p99 <= 20,
  )
  const promise = `promised: first snapshot in 2 s, 150 MB at most, p99 20 ms at 1000 changes/s: ${kept ? 'kept' : 'NOT kept'}`
  return [`follow an API server (${machine.cpus} CPUs, load ${machine.load})`, formatTable(head, rows), promise].join(
    '\n',
  )
}
