import { closeSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { spawnIn } from '../linux/exec.ts'
import type { Netns } from '../linux/netns.ts'
import { hostNetnsPath } from './built-in-networks.ts'
import type { PodFiles, PodRecord } from './pod-record.ts'

/*
 * A pod's command runs under a small shell, as a container runs under its shim: the shell gives it its own /etc/resolv.conf
 * (a bind mount in a mount namespace of its own), outlives the daemon, and writes down the exit code, so that nothing is
 * lost when the daemon restarts. No text of a user is ever part of a script: it comes as positional arguments.
 */

/** Binds $1 over /etc/resolv.conf in a mount namespace of its own, and becomes the command. */
const execScript = 'mount --bind -- "$1" /etc/resolv.conf || exit 125; shift; exec "$@"'

/** The same, then runs the command and writes its exit code to $2. Signals are for the command; the shell stays. */
const superviseScript = `mount --bind -- "$1" /etc/resolv.conf || exit 125
exit_file=$2; shift 2
trap : HUP INT TERM
"$@"
code=$?
printf '%s\\n' "$code" >"$exit_file"
exit "$code"`

/**
 * A mount namespace whose mounts nobody else sees, and which lets go of what the host unmounts (util-linux): a private one
 * would hold on to the host's file systems, and to the namespaces of pods that are gone.
 */
const inOwnMounts = ['unshare', '--mount', '--propagation', 'slave', '--'] as const

/** Words to put before a command, so that it runs in the pod's network with the pod's /etc/resolv.conf. */
export function execPrefix(netnsPath: string, resolvConf: string): string[] {
  return ['nsenter', `--net=${netnsPath}`, '--', ...inOwnMounts, 'sh', '-c', execScript, 'fairlead', resolvConf]
}

/** A supervising shell that was started. */
export interface PodProcess {
  readonly process: NonNullable<PodRecord['process']>
  /**
   * Resolves when the shell ended, with its exit code (128 + signal's number as shells have it). Undefined: it is no child of
   * ours, and has to be looked after.
   */
  readonly ended: Promise<number | undefined> | undefined
}

/** How a pod's command is started. */
export interface PodProcessOptions {
  /** Undefined: the host's own. */
  readonly netns: Netns | undefined
  readonly files: PodFiles
  readonly resolvConf: string
  readonly environment: Readonly<Record<string, string>>
}

/** The words that run a pod's command under its shell. */
export function superviseWords(
  command: readonly string[],
  { resolvConf, files }: Pick<PodProcessOptions, 'resolvConf' | 'files'>,
): readonly string[] {
  return [...inOwnMounts, 'sh', '-c', superviseScript, 'fairlead', resolvConf, files.exit, ...command]
}

/** The environment of a pod's command: where only that tells its processes, with a mark. */
export function podEnvironment({
  netns,
  environment,
  files,
}: Pick<PodProcessOptions, 'netns' | 'environment' | 'files'>): Readonly<Record<string, string>> {
  return netns ? environment : { ...environment, [markVariable]: files.folder }
}

/**
 * Starts a pod's command: a session of its own, without input, output to the log. It is in the namespace from its birth,
 * so that whoever clears the namespace later finds it. Rejects when it cannot be started.
 */
export async function startPodProcess(command: readonly string[], options: PodProcessOptions): Promise<PodProcess> {
  const { netns, files } = options
  const log = openSync(files.log, 'a', 0o600)
  try {
    const child = spawnIn(netns, superviseWords(command, options), {
      cwd: '/',
      env: podEnvironment(options),
      detached: true,
      stdio: ['ignore', log, log],
    })
    const ended = new Promise<number | undefined>((resolve) => {
      child.once('exit', (code) => resolve(code ?? undefined))
    })
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve)
      child.once('error', reject)
    })
    child.unref()
    const pid = child.pid!
    // It may have ended already; then it is a zombie until `exit` is told, and still has its start time.
    return { process: { pid, startTime: startTimeOf(pid) ?? '' }, ended }
  } finally {
    closeSync(log)
  }
}

/** Whether the process of a record runs. */
export function isAlive({ pid, startTime }: NonNullable<PodRecord['process']>): boolean {
  return startTime !== '' && startTimeOf(pid) === startTime
}

/** The exit code that the supervising shell wrote; undefined when it did not come to that. */
export function readExitCode(files: PodFiles): number | undefined {
  try {
    const text = readFileSync(files.exit, 'utf8')
    return /^\d+\n$/.test(text) ? Number(text) : undefined
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** How a pod's processes are known: by their network namespace, or, where that is the host's, by a mark in their environment. */
export type ProcessScope = { readonly netnsPath: string } | { readonly mark: string }

/** The environment variable that marks the processes of a pod in the host's network; its value is the pod's own. */
export const markVariable = 'FAIRLEAD_POD_FILES'

function processesOf(scope: ProcessScope): number[] {
  return 'netnsPath' in scope ? processesIn(scope.netnsPath) : markedProcesses(`${markVariable}=${scope.mark}`)
}

/** Processes with an entry in their environment, and all others of their sessions: some programs clear their environment. */
function markedProcesses(entry: string): number[] {
  const pids = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
  // In our own namespace: a daemon in another one may have a pod of the same name.
  const marked = processesIn(hostNetnsPath).filter((pid) => marksOf(pid).includes(entry))
  // Only sessions that a process of the pod leads: the pod's shell does, and who else began one.
  const sessions = new Set(marked.filter((pid) => sessionOf(pid) === pid))
  const members = pids.filter((pid) => sessions.has(sessionOf(pid) ?? 0))
  return [...new Set([...marked, ...members])].filter((pid) => startTimeOf(pid) !== undefined)
}

/** Our entries in a process's environment. */
function marksOf(pid: number): string[] {
  try {
    const entries = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0')
    return entries.filter((entry) => entry.startsWith(`${markVariable}=`))
  } catch {
    // It ended meanwhile.
    return []
  }
}

/** Stops the processes of all pods that are in the same network namespace as this process: those of the host's network. */
export async function killAllOnHost(): Promise<number> {
  const marks = new Set(processesIn(hostNetnsPath).flatMap(marksOf))
  let killed = 0
  for (const mark of marks) killed += await killAll({ mark: mark.slice(markVariable.length + 1) })
  return killed
}

/** All processes in the network namespace at a path. A path without a namespace has none. */
export function processesIn(netnsPath: string): number[] {
  const namespace = statSync(netnsPath, { throwIfNoEntry: false })
  if (!namespace) return []
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const own = statSync(`/proc/${pid}/ns/net`)
        return own.ino === namespace.ino && own.dev === namespace.dev
      } catch {
        // It ended meanwhile, or it is a zombie: nothing that could be stopped.
        return false
      }
    })
}

/** As {@link killAll}, of all that is in a namespace. */
export async function killAllIn(netnsPath: string): Promise<number> {
  return await killAll({ netnsPath })
}

/** Stops all processes of a pod at once, until none is left: one may have forked while it was looked for. */
export async function killAll(scope: ProcessScope): Promise<number> {
  const killed = new Set<number>()
  for (let attempt = 0; attempt < 100; attempt++) {
    const pids = processesOf(scope)
    if (pids.length === 0) return killed.size
    for (const pid of pids) {
      killed.add(pid)
      sendSignal(pid, 'SIGKILL')
    }
    await sleep(10)
  }
  const where = 'netnsPath' in scope ? `in ${scope.netnsPath}` : `with ${markVariable}=${scope.mark}`
  throw new Error(`processes ${processesOf(scope).join(', ')} ${where} do not end`)
}

/** Asks the command's process group to end, waits, and then stops whatever is left of the pod. */
export async function endProcesses(
  record: Pick<PodRecord, 'process'>,
  options: { readonly scope: ProcessScope; readonly graceMs: number },
): Promise<void> {
  const { scope, graceMs } = options
  if (record.process && isAlive(record.process)) {
    // The shell leads the group (it began its session) and passes signals over.
    sendSignal(-record.process.pid, 'SIGTERM')
    const deadline = performance.now() + graceMs
    while (performance.now() < deadline && processesOf(scope).length > 0) await sleep(20)
  }
  await killAll(scope)
}

/** Field 22 of /proc/PID/stat (proc_pid_stat(5)); undefined when there is no such process, or only its zombie. */
export function startTimeOf(pid: number): string | undefined {
  const fields = statOf(pid)
  return fields?.[0] === 'Z' || fields?.[0] === 'X' ? undefined : fields?.[19]
}

/** Field 6: the process that began its session. */
function sessionOf(pid: number): number | undefined {
  const session = statOf(pid)?.[3]
  return session === undefined ? undefined : Number(session)
}

/** The fields of /proc/PID/stat from the third on. */
function statOf(pid: number): readonly string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name, in parentheses, may contain anything: count from behind it.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
