import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { deleteNetns, listNetns } from '../src/linux/netns.ts'
import { BenchUsageError } from './usage-error.ts'

/** Named namespaces and folders of the benchmark: `flbench-PID` and whatever follows. */
const ours = /^flbench-(\d+)(?:-|$)/

/**
 * Gives the run a folder for everything temporary, and sees to it that the folder and named namespaces are gone at the end of the
 * process, however it ends but for SIGKILL; what such a one left is removed by the next run.
 */
export function clearUpAtExit(): void {
  const folder = newFolder()
  clearUpAfterTheDead(tmpdir())
  // os.tmpdir() looks here, in this process and in those that it starts.
  process.env['TMPDIR'] = folder
  process.once('exit', () => {
    try {
      rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
    } catch (error) {
      // A process that was just killed may still write; the folder is one of tmpdir's.
      process.stderr.write(`bench: cannot remove ${folder}: ${(error as Error).message}\n`)
    }
    for (const name of listNetns()) if (ours.exec(name)?.[1] === String(process.pid)) deleteNetns(name)
  })
}

function newFolder(): string {
  try {
    return mkdtempSync(join(tmpdir(), `flbench-${process.pid}-`))
  } catch (error) {
    throw new BenchUsageError(`TMPDIR: cannot write there: ${(error as Error).message}`, { cause: error })
  }
}

/** Ends and removes what runs that were killed by SIGKILL have left: namespaces, processes, and their folders in `temporary`. */
export function clearUpAfterTheDead(temporary: string): void {
  for (const name of listNetns()) if (isOfTheDead(name)) deleteNetns(name)
  for (const name of readdirSync(temporary).filter(isOfTheDead)) {
    const folder = join(temporary, name)
    for (const pid of processesOf(folder)) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
      }
    }
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
  }
}

function isOfTheDead(name: string): boolean {
  const pid = ours.exec(name)?.[1]
  return pid !== undefined && !existsSync(`/proc/${pid}`)
}

/** Everything that a run has started has the run's folder in its environment. */
function processesOf(folder: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`TMPDIR=${folder}`)
      } catch {
        // It is gone, or nobody may look into it: not one of ours.
        return false
      }
    })
    .map(Number)
}

/**
 * A signal that Ctrl-C, SIGTERM and SIGHUP abort. Suites then have half a minute to end what they started; the second Ctrl-C does not
 * wait.
 */
export function abortedByUser(): AbortSignal {
  const controller = new AbortController()
  let first = 0
  const stop = (): void => {
    if (controller.signal.aborted) {
      // The terminal sends it to all of us, and npm and `fairlead bench` pass it on: that is one Ctrl-C, not two.
      if (performance.now() - first > 1000) process.exit(130)
      return
    }
    first = performance.now()
    process.stderr.write('\nbench: stopping; what was made is being removed\n')
    controller.abort(new Error('stopped by the user'))
    setTimeout(() => process.exit(130), 30_000).unref()
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  process.on('SIGHUP', stop)
  return controller.signal
}
