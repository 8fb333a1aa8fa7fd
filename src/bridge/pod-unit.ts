import { closeSync, openSync } from 'node:fs'
import { basename } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { run } from '../linux/exec.ts'
import { MountNamespace } from '../linux/mount-namespace.ts'
import { podEnvironment, startTimeOf, superviseWords, type PodProcess, type PodProcessOptions } from './pod-process.ts'

/*
 * Where the daemon is a unit of systemd, its pods are not part of it: they would be counted and limited with it, have its view
 * of the file system, its few capabilities and its system call filter, and end with it. So systemd itself starts each pod's
 * command, as a unit of its own, in the machine's own view of the file system.
 */

/** What pods of a daemon that is a unit are made with. */
export interface PodService extends Disposable {
  /** Whose mounts the names of network namespaces are; undefined: the daemon sees the machine as everybody does. */
  readonly mounts: MountNamespace | undefined
  readonly startProcess: (command: readonly string[], options: PodProcessOptions) => Promise<PodProcess>
}

/** The unit of the daemon does not let it make pods; the message is for the user. */
export class PodServiceError extends Error {
  override readonly name = 'PodServiceError'
}

/** Opens the way out of the daemon's own unit. Throws {@link PodServiceError}. */
export function openPodService(): PodService {
  const mounts = openMachine()
  return { mounts, startProcess: startPodUnit, [Symbol.dispose]: () => mounts?.[Symbol.dispose]() }
}

function openMachine(): MountNamespace | undefined {
  try {
    return MountNamespace.open(1)
  } catch (error) {
    const advice = 'the unit needs CAP_SYS_PTRACE, CAP_SYS_ADMIN and CAP_SYS_CHROOT'
    const message = `the mounts of the machine cannot be seen from this unit: ${(error as Error).message} (${advice})`
    throw new PodServiceError(message, { cause: error })
  }
}

/** A unit of the same pod that has just ended has its name for some moments more. */
const nameTakenMs = 5_000

async function startPodUnit(command: readonly string[], options: PodProcessOptions): Promise<PodProcess> {
  const { netns, files } = options
  // systemd would make it readable for everybody.
  closeSync(openSync(files.log, 'a', 0o600))
  const unit = `fairlead-pod-${basename(files.folder)}.service`
  const environment = Object.entries(podEnvironment(options))
  const words = [
    'systemd-run',
    '--quiet',
    '--collect',
    '--service-type=exec',
    `--unit=${unit}`,
    '--slice=fairlead-pods.slice',
    `--description=Pod ${basename(files.folder)} of fairlead`,
    ...unitSettings(netns?.path, files.log).map((setting) => `--property=${setting}`),
    ...environment.map(([name, value]) => `--setenv=${name}=${value}`),
    '--',
    ...superviseWords(command, options).map(escapeWord),
  ]
  await runFreeing(words)
  const shown = await runChecked(['systemctl', 'show', '--property=MainPID', '--value', unit])
  // 0 when it has ended already; then its exit code is in its file.
  const pid = Number(shown.trim())
  return { process: { pid, startTime: (pid > 0 && startTimeOf(pid)) || '' }, ended: undefined }
}

function unitSettings(netnsPath: string | undefined, log: string): readonly string[] {
  return [
    ...(netnsPath === undefined ? [] : [`NetworkNamespacePath=${netnsPath}`]),
    `StandardOutput=append:${log}`,
    `StandardError=append:${log}`,
    // "fairlead pod rm" gives them 5 s, too.
    'TimeoutStopSec=5',
  ]
}

/** systemd expands `$NAME` and `${NAME}` in the words of a command (systemd.service(5), "Command lines"); `$$` stays one. */
export function escapeWord(word: string): string {
  return word.replaceAll('$', '$$$$')
}

async function runFreeing(argv: readonly string[]): Promise<void> {
  const end = performance.now() + nameTakenMs
  for (;;) {
    try {
      await runChecked(argv)
      return
    } catch (error) {
      if (!/already (exists|loaded)|was already/.test((error as Error).message) || performance.now() > end) throw error
      await sleep(100)
    }
  }
}

async function runChecked(argv: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(argv, { timeout: 60_000 })
  if (code === 0) return stdout
  throw new Error(`${argv[0]}: ${stderr.trim() || `exit code ${code}`}`)
}
