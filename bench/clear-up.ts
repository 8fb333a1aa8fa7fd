import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { deleteNetns, listNetns } from '../src/linux/netns.ts'

/** Named namespaces of the benchmark: `flbench-PID` and whatever follows. */
const ours = /^flbench-(\d+)(?:-|$)/

/**
 * Gives the run a folder for everything temporary, and sees to it that the folder and named namespaces are gone at the end of the
 * process, however it ends but for SIGKILL; what such a one left is removed by the next run.
 */
export function clearUpAtExit(): void {
  for (const name of listNetns()) {
    const pid = ours.exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) deleteNetns(name)
  }
  const folder = mkdtempSync(join(tmpdir(), 'flbench-'))
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

/**
 * A signal that Ctrl-C and SIGTERM abort. Suites then have half a minute to end what they started; the second Ctrl-C does not
 * wait.
 */
export function abortedByUser(): AbortSignal {
  const controller = new AbortController()
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(130)
    process.stderr.write('\nbench: stopping; what was made is being removed\n')
    controller.abort(new Error('stopped by the user'))
    setTimeout(() => process.exit(130), 30_000).unref()
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  process.on('SIGHUP', stop)
  return controller.signal
}
