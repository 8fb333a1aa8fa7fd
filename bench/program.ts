import { spawn, spawnSync, type ChildProcess, type StdioOptions } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { callDaemon } from '../src/cli/control-client.ts'
import type { StatusView, SyncView } from '../src/daemon/control-api.ts'
import { createNetns, type Netns } from '../src/linux/netns.ts'
import { addService, churnServices, generateServices, rewriteService, type ServiceSet } from './generate-services.ts'
import { legacyTableBytes } from './legacy-table.ts'
import { launcher } from './proxy-daemon.ts'
import { stopAtExit } from './stop-at-exit.ts'

/** Proxy modes as they are measured: iptables once with each kind of tools. */
export const programModes = ['nftables', 'iptables-legacy', 'iptables-nft', 'ipvs', 'userspace'] as const

/** See {@link programModes}. */
export type ProgramMode = (typeof programModes)[number]

/** One sync, and the CPU seconds that the daemon and the tools which it ran took for it. */
export interface MeasuredSync extends SyncView {
  readonly cpuSeconds: number
}

/** One mode at one size, measured. Times in milliseconds. */
export interface ProgramResult {
  readonly mode: ProgramMode
  readonly services: number
  readonly endpointsEach: number
  /** From the daemon's start to the end of its first sync: reading the manifests included. */
  readonly startMs: number
  readonly cold: MeasuredSync
  readonly rssAfterStart: number
  /** One endpoint of one Service replaced. */
  readonly changes: readonly MeasuredSync[]
  /** One Service added. */
  readonly additions: readonly MeasuredSync[]
  /** One endpoint of every tenth Service replaced, at once. */
  readonly churn: MeasuredSync
  readonly rssAfterChanges: number
  /** First sync of a daemon that was killed (SIGKILL) and started again: what it had to send. */
  readonly restart: MeasuredSync
  /** iptables: first syncs, and the tool by itself, in turns. */
  readonly besideTool: readonly ToolPair[] | undefined
  /** iptables-legacy: what the kernel takes anew for each change. */
  readonly tableBytes: number | undefined
}

/** A cold start and `iptables-restore` of the same rules by itself, all tables and both families, one after the other. Milliseconds. */
export interface ToolPair {
  /** From the snapshot until all was committed. */
  readonly syncMs: number
  /** From the daemon's start until then. */
  readonly startMs: number
  readonly aloneMs: number
}

/** What to measure. */
export interface ProgramTask extends ServiceSet {
  readonly mode: ProgramMode
  readonly rounds: number
  /** How often daemon and tool take turns, where that takes no longer than a minute. */
  readonly toolRounds: number
  /** Give up on a start after so long, ms. */
  readonly startLimitMs: number
}

/** Runs the real daemon on a generated folder of manifests in a network namespace of its own. */
export async function runProgram(task: ProgramTask, progress: (text: string) => void): Promise<ProgramResult> {
  const { mode, services, endpointsEach, rounds } = task
  const say = (text: string): void => progress(`${mode}, ${services} Services x ${endpointsEach}: ${text}`)
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-bench-'))
  const manifests = join(folder, 'manifests')
  say('writing manifests')
  generateServices(manifests, task)
  writeFileSync(join(folder, 'fairlead.yaml'), configuration(folder, mode))
  using netns = createNetns(`flbench-${process.pid}`)
  prepareNetns(netns, mode)
  const began = Date.now()
  let daemon = startDaemon(folder, netns)
  const forget = stopAtExit(() => void daemon.child.kill('SIGKILL'))
  try {
    say('cold start')
    const ready = await daemon.until(hasSynced, { withinMs: task.startLimitMs, everyMs: startPollMs })
    const startMs = Date.parse(firstSync(ready).time) - began
    const cold = { ...firstSync(ready), cpuSeconds: daemon.cpuSeconds() }

    await daemon.settle()
    const changes: MeasuredSync[] = []
    for (let round = 0; round < rounds; round++) {
      const index = Math.floor((services * round) / rounds)
      changes.push(
        await daemon.sync(() => rewriteService(manifests, task, index, `10.255.${round >> 8}.${round & 255}`)),
      )
      // The file goes back to what it was; that is a change too, and not counted.
      await daemon.sync(() => rewriteService(manifests, task, index))
      say(`one endpoint changed, ${round + 1} of ${rounds}`)
    }
    const additions: MeasuredSync[] = []
    for (let round = 0; round < Math.min(rounds, 3); round++) {
      additions.push(await daemon.sync(() => addService(manifests, task, true)))
      await daemon.sync(() => addService(manifests, task, false))
      say(`one Service added, ${round + 1} of ${Math.min(rounds, 3)}`)
    }
    say('a tenth of all Services changes')
    const churn = await daemon.syncAll(() => churnServices(manifests, task, true), { quietMs: 1000 })
    await daemon.syncAll(() => churnServices(manifests, task, false), { quietMs: 1000 })
    const after = await daemon.status()
    const tableBytes = mode === 'iptables-legacy' ? legacyTableBytes(netns) : undefined

    say('kill -9 and restart')
    await daemon.end('SIGKILL')
    daemon = startDaemon(folder, netns)
    const restarted = await daemon.until(hasSynced, { withinMs: task.startLimitMs, everyMs: startPollMs })
    const restart = { ...firstSync(restarted), cpuSeconds: daemon.cpuSeconds() }
    const saved = mode.startsWith('iptables-') ? saveRules(folder, netns, mode) : undefined
    await daemon.end('SIGKILL')
    const besideTool = saved && (await takeTurns(folder, { ...task, saved, say }))
    return {
      mode,
      services,
      endpointsEach,
      startMs,
      cold,
      rssAfterStart: ready.rssBytes,
      changes,
      additions,
      churn,
      rssAfterChanges: after.rssBytes,
      restart,
      besideTool,
      tableBytes,
    }
  } finally {
    forget()
    await daemon.end('SIGTERM')
    rmSync(folder, { recursive: true, force: true })
  }
}

/** No bridge network and no DNS: they have their own suites. */
function configuration(folder: string, mode: ProgramMode): string {
  return `nodeName: node-1
stateDir: ${folder}/state
controlSocket: ${folder}/control.sock
sources: {files: [manifests]}
network: {enabled: false}
dns: {enabled: false}
api: {enabled: false}
services: {mode: ${mode.replace(/-.*/, '')}, clusterCIDRs: [10.128.0.0/9]}
http: {enabled: false}
`
}

function prepareNetns(netns: Netns, mode: ProgramMode): void {
  // IPVS takes addresses for broadcast ones where no link is up.
  run(netns, ['ip', 'link', 'set', 'lo', 'up'])
  if (mode.startsWith('iptables-')) hintTools(netns, mode.slice('iptables-'.length))
}

/** As kubelet does: whoever looks for the kind of tools that a machine uses finds this chain (KEP-3178). */
function hintTools(netns: Netns, kind: string): void {
  for (const program of [`iptables-${kind}`, `ip6tables-${kind}`]) {
    run(netns, [program, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT'])
  }
}

/** The rules that are there, for the tools, and the sets that they name. */
interface SavedRules {
  readonly kind: string
  /** Files, of iptables and ip6tables. */
  readonly rules: readonly string[]
  /** Empty where there is no program that saves them. */
  readonly sets: string
}

const tools = ['iptables', 'ip6tables'] as const

function saveRules(folder: string, netns: Netns, mode: ProgramMode): SavedRules {
  const kind = mode.slice('iptables-'.length)
  const sets = run(netns, ['sh', '-c', 'command -v ipset >/dev/null && ipset save || true'])
  const rules = tools.map((tool) => {
    const file = join(folder, `${tool}.rules`)
    writeFileSync(file, withoutSets(run(netns, [`${tool}-${kind}-save`]), sets !== ''))
    return file
  })
  return { kind, rules, sets }
}

/** Rounds of turns may take so long, ms; there is one at least. */
const turnsLimitMs = 60_000

/** After a namespace went, the kernel takes its rules apart in the background: half a core for a while. */
const restMs = 1500

/** First syncs of the daemon, and the same rules by the tool alone, in turns, each in a namespace of its own. */
async function takeTurns(
  folder: string,
  { mode, toolRounds, startLimitMs, saved, say }: ProgramTask & { saved: SavedRules; say: (text: string) => void },
): Promise<readonly ToolPair[]> {
  const pairs: ToolPair[] = []
  const began = performance.now()
  const rest = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, restMs))
  while (pairs.length < toolRounds && (pairs.length === 0 || performance.now() - began < turnsLimitMs)) {
    say(`iptables-restore of the same rules by itself, and a cold start, ${pairs.length + 1} of ${toolRounds}`)
    await rest()
    const aloneMs = restoreAlone(saved)
    await rest()
    pairs.push({ aloneMs, ...(await startCold(folder, { mode, startLimitMs })) })
  }
  return pairs
}

async function startCold(
  folder: string,
  { mode, startLimitMs }: Pick<ProgramTask, 'mode' | 'startLimitMs'>,
): Promise<Pick<ToolPair, 'syncMs' | 'startMs'>> {
  rmSync(join(folder, 'state'), { recursive: true, force: true })
  using netns = createNetns(`flbench-${process.pid}-cold`)
  prepareNetns(netns, mode)
  const began = Date.now()
  const daemon = startDaemon(folder, netns)
  const forget = stopAtExit(() => void daemon.child.kill('SIGKILL'))
  try {
    const sync = firstSync(await daemon.until(hasSynced, { withinMs: startLimitMs, everyMs: startPollMs }))
    return { syncMs: sync.commitMs, startMs: Date.parse(sync.time) - began }
  } finally {
    forget()
    await daemon.end('SIGKILL')
  }
}

/** From files, so that it waits for nobody. As a proxy must: with `--noflush`, since the tables have rules of others. The nft tools take several times as long for that. */
function restoreAlone({ kind, rules, sets }: SavedRules): number {
  using netns = createNetns(`flbench-${process.pid}-alone`)
  if (sets !== '') run(netns, ['ipset', 'restore'], sets)
  const inputs = rules.map((file) => openSync(file, 'r'))
  try {
    const began = performance.now()
    for (const [index, tool] of tools.entries()) run(netns, [`${tool}-${kind}-restore`, '--noflush'], inputs[index])
    return performance.now() - began
  } finally {
    for (const input of inputs) closeSync(input)
  }
}

/** Rules that name sets cannot be restored where there are none: without the program that makes them, those few are left out. */
function withoutSets(rules: string, hasSets: boolean): string {
  return hasSets
    ? rules
    : rules
        .split('\n')
        .filter((line) => !line.includes('--match-set'))
        .join('\n')
}

/** `input`: a text, or a file that is open. */
function run(netns: Netns, argv: readonly string[], input: string | number = ''): string {
  const [program = '', ...args] = argv
  const stdio: StdioOptions = [typeof input === 'string' ? 'pipe' : input, 'pipe', 'pipe']
  const text = typeof input === 'string' && { input }
  const result = netns.enter(() => spawnSync(program, args, { stdio, ...text, encoding: 'utf8', maxBuffer: 2 ** 30 }))
  if (result.error) throw new Error(`cannot run ${program}`, { cause: result.error })
  if (result.status !== 0)
    throw new Error(`${argv.join(' ')}: exit code ${result.status}: ${result.stderr.slice(0, 500)}`)
  return result.stdout
}

/** A daemon that starts is asked seldom: each answer takes a millisecond of it, and it says itself when its first sync was. */
const startPollMs = 200

const hasSynced = ({ ready, services }: StatusView): boolean => ready && services?.firstSync !== undefined

interface RunningDaemon {
  readonly child: ChildProcess
  status(): Promise<StatusView>
  /** The first status that `done` takes. */
  until(
    done: (status: StatusView) => boolean,
    options?: { readonly withinMs?: number; readonly everyMs?: number },
  ): Promise<StatusView>
  /** Waits until there was no sync for a while: a late one would be taken for that of a change. */
  settle(): Promise<void>
  /** The one sync that `change` leads to. */
  sync(change: () => void): Promise<MeasuredSync>
  /** All syncs that `change` leads to, until there was none for a while, as if they were one. */
  syncAll(change: () => void, options: { readonly quietMs: number }): Promise<MeasuredSync>
  /** User and system time of the daemon and of all tools that it ran, seconds. */
  cpuSeconds(): number
  end(signal: NodeJS.Signals): Promise<void>
}

function startDaemon(folder: string, netns: Netns): RunningDaemon {
  const socket = join(folder, 'control.sock')
  const child = netns.enter(() => {
    const log = openSync(join(folder, 'daemon.log'), 'a')
    return spawn(launcher(), ['run', '--config', join(folder, 'fairlead.yaml')], { stdio: ['ignore', log, log] })
  })
  const status = (): Promise<StatusView> => callDaemon<StatusView>(socket, 'GET', '/status')
  const daemon: RunningDaemon = {
    child,
    status,
    async until(done, { withinMs = 60_000, everyMs = 20 } = {}) {
      const deadline = performance.now() + withinMs
      for (;;) {
        if (child.exitCode !== null)
          throw new Error(`the daemon ended: ${readFileSync(join(folder, 'daemon.log'), 'utf8').slice(-2000)}`)
        const current = await status().catch(() => undefined)
        if (current && done(current)) return current
        if (performance.now() > deadline) throw new ProgramTimeout(`not there after ${Math.round(withinMs / 1000)} s`)
        await new Promise((resolve) => setTimeout(resolve, everyMs))
      }
    },
    async settle() {
      for (let known = -1; ;) {
        const { services } = await status()
        if (services?.syncs === known) return
        known = services?.syncs ?? 0
        await new Promise((resolve) => setTimeout(resolve, 300))
      }
    },
    async sync(change) {
      const before = await status()
      const cpu = daemon.cpuSeconds()
      change()
      const after = await daemon.until(
        // One that changed no Service is another's: then this change is yet to come. Userspace seldom tells the kernel of one.
        ({ services }) =>
          (services?.syncs ?? 0) > (before.services?.syncs ?? 0) &&
          (services?.mode === 'userspace' || (services?.lastSync?.changedServices ?? 0) > 0),
      )
      return { ...lastSync(after), cpuSeconds: daemon.cpuSeconds() - cpu }
    },
    async syncAll(change, { quietMs }) {
      const cpu = daemon.cpuSeconds()
      let known = (await status()).services?.syncs ?? 0
      const syncs: SyncView[] = []
      change()
      let quietSince = performance.now()
      while (syncs.length === 0 || performance.now() - quietSince < quietMs) {
        const { services } = await status()
        if ((services?.syncs ?? 0) > known && services?.lastSync) {
          known = services.syncs
          syncs.push(services.lastSync)
          quietSince = performance.now()
        }
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      return { ...addSyncs(syncs), cpuSeconds: daemon.cpuSeconds() - cpu }
    },
    cpuSeconds: () => cpuTime(child.pid ?? 0),
    end(signal) {
      if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
      return new Promise((resolve) => {
        child.once('exit', () => resolve())
        child.kill(signal)
      })
    },
  }
  return daemon
}

/** A start that took longer than we wait. */
export class ProgramTimeout extends Error {
  override readonly name = 'ProgramTimeout'
}

function addSyncs(syncs: readonly SyncView[]): SyncView {
  const sum = (pick: (sync: SyncView) => number): number => syncs.reduce((total, sync) => total + pick(sync), 0)
  return {
    time: syncs[0]?.time ?? '',
    changedServices: sum((s) => s.changedServices),
    elements: sum((s) => s.elements),
    bytes: sum((s) => s.bytes),
    messages: sum((s) => s.messages),
    commitMs: sum((s) => s.commitMs),
    wallMs: sum((s) => s.wallMs),
    kernelMs: sum((s) => s.kernelMs),
  }
}

function firstSync(status: StatusView): SyncView {
  const sync = status.services?.firstSync
  if (!sync) throw new Error('the daemon is ready but had no first sync')
  return sync
}

function lastSync(status: StatusView): SyncView {
  const sync = status.services?.lastSync
  if (!sync) throw new Error('the daemon had no sync')
  return sync
}

/** utime, stime and those of children that ended, of /proc/PID/stat (proc(5)), 100 ticks a second. */
function cpuTime(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields.slice(11, 15).reduce((total, ticks) => total + Number(ticks), 0) / 100
}
