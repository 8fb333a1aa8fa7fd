import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { callDaemon } from '../src/cli/control-client.ts'
import { formatTable } from '../src/cli/table.ts'
import type { StatusView, SyncView } from '../src/daemon/control-api.ts'
import { createNetns } from '../src/linux/netns.ts'
import { generateServices, rewriteService, type ServiceSet } from './generate-services.ts'
import type { MachineFacts } from './machine.ts'

/** One size, measured. Times in milliseconds. */
export interface ProgramResult {
  readonly services: number
  readonly endpointsEach: number
  /** From the daemon's start to readiness: reading the manifests included. */
  readonly startMs: number
  readonly cold: SyncView
  readonly rssAfterStart: number
  /** One sync for each one-endpoint change. */
  readonly changes: readonly SyncView[]
  readonly rssAfterChanges: number
  /** First sync of a daemon that was killed (SIGKILL) and started again: what it had to send. */
  readonly restart: SyncView
  /** User and system time of the daemon from start to the end of the changes, seconds. */
  readonly cpuSeconds: number
}

const launcher = fileURLToPath(new URL('../bin/fairlead', import.meta.url))

/** Runs the real daemon on a generated folder of manifests in a network namespace of its own. */
export async function runProgram(
  set: ServiceSet & { readonly rounds: number },
  progress: (text: string) => void,
): Promise<ProgramResult> {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-bench-'))
  const manifests = join(folder, 'manifests')
  const socket = join(folder, 'control.sock')
  progress(`${set.services} Services x ${set.endpointsEach}: writing manifests`)
  generateServices(manifests, set)
  writeFileSync(
    join(folder, 'fairlead.yaml'),
    `nodeName: node-1
stateDir: ${folder}/state
controlSocket: ${socket}
sources: {files: [manifests]}
services: {clusterCIDRs: [10.128.0.0/9]}
http: {enabled: false}
`,
  )
  using netns = createNetns(`flbench-${process.pid}`)
  const start = (): ChildProcess =>
    netns.enter(() => {
      const log = openSync(join(folder, 'daemon.log'), 'a')
      return spawn(launcher, ['run', '--config', join(folder, 'fairlead.yaml')], {
        stdio: ['ignore', log, log],
      })
    })
  let daemon = start()
  const abort = (): void => {
    daemon.kill('SIGKILL')
  }
  process.once('exit', abort)
  try {
    progress(`${set.services} Services x ${set.endpointsEach}: cold start`)
    const before = performance.now()
    const ready = await waitFor(
      daemon,
      socket,
      folder,
      (status) => status.ready && status.services?.firstSync !== undefined,
    )
    const startMs = performance.now() - before
    const cold = firstSync(ready)

    const changes: SyncView[] = []
    let syncs = ready.services?.syncs ?? 0
    for (let round = 0; round < set.rounds; round++) {
      const index = Math.floor((set.services * round) / set.rounds)
      rewriteService(manifests, set, index, `10.255.${round >> 8}.${round & 255}`)
      const status = await waitFor(daemon, socket, folder, (s) => (s.services?.syncs ?? 0) > syncs)
      syncs = status.services?.syncs ?? 0
      if (status.services?.lastSync) changes.push(status.services.lastSync)
      // The file goes back to what it was; that is a change too, and not counted.
      rewriteService(manifests, set, index)
      const restored = await waitFor(daemon, socket, folder, (s) => (s.services?.syncs ?? 0) > syncs)
      syncs = restored.services?.syncs ?? 0
      progress(`${set.services} Services x ${set.endpointsEach}: change ${round + 1} of ${set.rounds}`)
    }
    const after = await status(socket)
    const cpuSeconds = cpuTime(daemon.pid ?? 0)

    progress(`${set.services} Services x ${set.endpointsEach}: kill -9 and restart`)
    await ended(daemon, 'SIGKILL')
    daemon = start()
    const restarted = await waitFor(daemon, socket, folder, (s) => s.ready && s.services?.firstSync !== undefined)
    return {
      services: set.services,
      endpointsEach: set.endpointsEach,
      startMs,
      cold,
      rssAfterStart: ready.rssBytes,
      changes,
      rssAfterChanges: after.rssBytes,
      restart: firstSync(restarted),
      cpuSeconds,
    }
  } finally {
    process.off('exit', abort)
    await ended(daemon, 'SIGTERM')
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The results as a table for people. */
export function formatProgram(machine: MachineFacts, results: readonly ProgramResult[]): string {
  const rows = results.map((result) => {
    const kernel = result.changes.map((change) => change.kernelMs)
    const distinct = (pick: (sync: SyncView) => number): string => [...new Set(result.changes.map(pick))].join('/')
    return [
      `${result.services} x ${result.endpointsEach}`,
      (result.startMs / 1000).toFixed(2),
      result.cold.kernelMs.toFixed(1),
      String(result.cold.elements),
      String(result.cold.bytes),
      `${median(kernel).toFixed(3)} (${Math.min(...kernel).toFixed(3)}-${Math.max(...kernel).toFixed(3)})`,
      median(result.changes.map((change) => change.wallMs)).toFixed(2),
      distinct((change) => change.elements),
      distinct((change) => change.bytes),
      String(result.restart.elements),
      `${mb(result.rssAfterStart)}/${mb(result.rssAfterChanges)}`,
      result.cpuSeconds.toFixed(1),
    ]
  })
  const head = [
    'Services',
    'start s',
    'cold kernel ms',
    'elements',
    'bytes',
    'change kernel ms',
    'sync ms',
    'elements',
    'bytes',
    'restart elements',
    'RSS MB start/after',
    'CPU s',
  ]
  return `kernel ${machine.kernel}, ${machine.cpus} x ${machine.cpu}, Node ${machine.node}, load ${machine.load}

${formatTable(head, rows)}

start: daemon start to readiness, manifests read; cold kernel: the first transaction; change: one endpoint of one Service
replaced, median (range); sync: compile, send and commit of that change; restart: elements sent after kill -9.`
}

async function waitFor(
  daemon: ChildProcess,
  socket: string,
  folder: string,
  done: (status: StatusView) => boolean,
): Promise<StatusView> {
  const deadline = performance.now() + 300_000
  for (;;) {
    if (daemon.exitCode !== null)
      throw new Error(`the daemon ended: ${readFileSync(join(folder, 'daemon.log'), 'utf8').slice(-2000)}`)
    const current = await status(socket).catch(() => undefined)
    if (current && done(current)) return current
    if (performance.now() > deadline)
      throw new Error(`the daemon did not get there in 300 s: ${JSON.stringify(current)}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function status(socket: string): Promise<StatusView> {
  return callDaemon<StatusView>(socket, 'GET', '/status')
}

function firstSync(status: StatusView): SyncView {
  const sync = status.services?.firstSync
  if (!sync) throw new Error('the daemon is ready but had no first sync')
  return sync
}

function ended(daemon: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (daemon.exitCode !== null || daemon.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    daemon.once('exit', () => resolve())
    daemon.kill(signal)
  })
}

/** User and system time of a process, seconds: fields 14 and 15 of /proc/PID/stat (proc(5)), 100 ticks a second. */
function cpuTime(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

function mb(bytes: number): string {
  return (bytes / 1e6).toFixed(0)
}
