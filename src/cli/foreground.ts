import { systemClock } from '../base/clock.ts'
import type { Config } from '../daemon/config.ts'
import { createLogger } from '../daemon/logger.ts'
import type { ConfigSource } from '../daemon/reload.ts'
import { StartError } from '../daemon/start-context.ts'
import { startDaemon, type Daemon } from '../daemon/start.ts'
import { openSupervisor, readServiceEnvironment } from '../daemon/supervisor.ts'
import { UsageError } from './usage-error.ts'
import { versionText } from './version.ts'

/**
 * Starts the daemon in this process. What keeps it from starting becomes a message for the user. With `source`, changes of the
 * configuration file are taken over.
 */
export async function startForeground(config: Config, source?: ConfigSource): Promise<Daemon> {
  if (process.getuid?.() !== 0) {
    throw new UsageError('needs root: it creates network namespaces, links and nf_tables rules (try sudo)')
  }
  const log = createLogger(config.log)
  const service = readServiceEnvironment(process.env, process.pid)
  const supervisor = openSupervisor(service, { clock: systemClock, log })
  try {
    return await startDaemon(config, { log, version: versionText(), source, supervisor, isUnit: service.isUnit })
  } catch (error) {
    if (error instanceof StartError) throw new UsageError(error.message, { cause: error })
    throw error
  }
}

/** Aborted by one of the signals. A second one ends the process at once. */
export function stopSignal(signals: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP']): AbortSignal {
  const controller = new AbortController()
  for (const signal of signals) {
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(130)
      controller.abort()
    })
  }
  return controller.signal
}

/** Resolves when the signal is aborted; keeps the process alive until then. */
export function stopped(stop: AbortSignal): Promise<void> {
  if (stop.aborted) return Promise.resolve()
  const keepAlive = setInterval(() => {}, 3_600_000)
  return new Promise((resolve) => {
    stop.addEventListener('abort', () => {
      clearInterval(keepAlive)
      resolve()
    })
  })
}
