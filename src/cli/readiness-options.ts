import type { Command } from 'commander'
import { UsageError } from './usage-error.ts'

/** The flags of {@link readinessOptions}. */
export interface ReadinessFlags {
  readonly readinessTcp?: string
  readonly readinessHttp?: string
  readonly readinessInitialDelay?: string
  readonly readinessPeriod?: string
  readonly readinessTimeout?: string
  readonly readinessSuccessThreshold?: string
  readonly readinessFailureThreshold?: string
}

/** Adds the flags of a readiness probe; their names and defaults are those of Kubernetes. */
export function readinessOptions(command: Command): Command {
  return command
    .option('--readiness-tcp <port>', 'no traffic for the pod until it takes connections here')
    .option(
      '--readiness-http <path:port>',
      'no traffic for the pod until a GET is answered with 200 to 399, like /healthz:8080',
    )
    .option('--readiness-initial-delay <seconds>', 'before it is asked first (default: 0)')
    .option('--readiness-period <seconds>', 'between two attempts (default: 10; 1 until it was ready)')
    .option('--readiness-timeout <seconds>', 'of an attempt (default: 1)')
    .option('--readiness-success-threshold <count>', 'successes in a row until it is ready (default: 1)')
    .option('--readiness-failure-threshold <count>', 'failures in a row until it is not (default: 3)')
}

/** The `readinessProbe` that flags ask for; undefined: none. Whether its numbers can be is said by the daemon. Throws {@link UsageError}. */
export function readReadiness(flags: ReadinessFlags): Readonly<Record<string, unknown>> | undefined {
  const { readinessTcp: tcp, readinessHttp: http } = flags
  const numbers = Object.entries({
    initialDelaySeconds: readNumber('--readiness-initial-delay', flags.readinessInitialDelay),
    periodSeconds: readNumber('--readiness-period', flags.readinessPeriod),
    timeoutSeconds: readNumber('--readiness-timeout', flags.readinessTimeout),
    successThreshold: readNumber('--readiness-success-threshold', flags.readinessSuccessThreshold),
    failureThreshold: readNumber('--readiness-failure-threshold', flags.readinessFailureThreshold),
  }).filter(([, number]) => number !== undefined)
  if (tcp !== undefined && http !== undefined)
    throw usage('--readiness-tcp beside --readiness-http: expected one of them')
  if (tcp === undefined && http === undefined) {
    if (numbers.length === 0) return undefined
    throw usage('--readiness-...: expected --readiness-tcp or --readiness-http beside it')
  }
  return {
    ...(tcp !== undefined && { tcpSocket: { port: readNumber('--readiness-tcp', tcp) } }),
    ...(http !== undefined && { httpGet: readHttp(http) }),
    ...Object.fromEntries(numbers),
  }
}

/** `/healthz:8080`, or `8080` for `/`. */
function readHttp(text: string): { readonly path: string; readonly port: number } {
  const [, path = '/', port] = /^(\/.*?)?:?(\d+)$/.exec(text) ?? []
  if (port === undefined) throw usage(`--readiness-http ${text}: expected PATH:PORT, like /healthz:8080`)
  return { path, port: Number(port) }
}

function readNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined || /^\d+$/.test(text)) return text === undefined ? undefined : Number(text)
  throw usage(`${flag} ${text}: expected a whole number`)
}

function usage(message: string): UsageError {
  return new UsageError(message, { exitCode: 2 })
}
