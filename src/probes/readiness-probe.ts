import { ManifestError } from '../model/manifest-error.ts'
import { ManifestReader } from '../model/manifest-reader.ts'
import { ParseError } from '../net/parse-error.ts'
import { parsePort, type Port } from '../net/port.ts'

/** How readiness is asked for: a Probe (core/v1) with its defaults filled in, and exactly one of the first two. */
export interface ReadinessProbe {
  readonly tcpSocket?: { readonly port: Port }
  readonly httpGet?: { readonly path: string; readonly port: Port }
  readonly initialDelaySeconds: number
  readonly periodSeconds: number
  readonly timeoutSeconds: number
  readonly successThreshold: number
  readonly failureThreshold: number
}

const actions = ['tcpSocket', 'httpGet'] as const
const numbers = {
  initialDelaySeconds: { fallback: 0, min: 0 },
  periodSeconds: { fallback: 10, min: 1 },
  timeoutSeconds: { fallback: 1, min: 1 },
  successThreshold: { fallback: 1, min: 1 },
  failureThreshold: { fallback: 3, min: 1 },
} as const
/** A day. */
const most = 86_400

/** Reads a `readinessProbe`. What is not known here is refused: a probe that asks something else is worse than none. Throws ManifestError. */
export function parseReadinessProbe(value: unknown): ReadinessProbe {
  const reader = ManifestReader.of(value)
  for (const key of reader.keys()) {
    const known: readonly string[] = [...actions, ...Object.keys(numbers)]
    if (!known.includes(key)) reader.fail(key, `is not known here (expected one of ${known.join(', ')})`)
  }
  const given = actions.filter((action) => reader.has(action))
  if (given.length !== 1)
    reader.fail(
      actions[0],
      `stands ${given.length === 0 ? 'nowhere' : 'beside httpGet'} (expected one of tcpSocket and httpGet)`,
    )
  const read = (key: keyof typeof numbers): number => {
    const { fallback, min } = numbers[key]
    return reader.integer(key, { min, max: most }) ?? fallback
  }
  const tcp = reader.object('tcpSocket')
  const http = reader.object('httpGet')
  const [tcpPort, httpPort] = [tcp.parsed('port', parsePort), http.parsed('port', parsePort)]
  const path = http.parsedText('path', parsePath) ?? '/'
  for (const [action, inner] of [
    ['tcpSocket', tcp],
    ['httpGet', http],
  ] as const) {
    if (given.includes(action) && !inner.has('port'))
      inner.fail('port', 'is missing (expected a whole number from 1 to 65535)')
    for (const key of inner.keys()) {
      if (key !== 'port' && !(action === 'httpGet' && key === 'path')) inner.fail(key, 'is not known here')
    }
  }
  const probe: ReadinessProbe = {
    ...(tcpPort !== undefined && { tcpSocket: { port: tcpPort } }),
    ...(httpPort !== undefined && { httpGet: { path, port: httpPort } }),
    initialDelaySeconds: read('initialDelaySeconds'),
    periodSeconds: read('periodSeconds'),
    timeoutSeconds: read('timeoutSeconds'),
    successThreshold: read('successThreshold'),
    failureThreshold: read('failureThreshold'),
  }
  if (reader.problems.length > 0) throw new ManifestError('readinessProbe', reader.problems)
  return probe
}

/** `tcp 80`, `http /healthz:8080` */
export function formatReadinessProbe({ tcpSocket, httpGet }: ReadinessProbe): string {
  return httpGet ? `http ${httpGet.path}:${httpGet.port}` : `tcp ${tcpSocket?.port}`
}

/** It goes into a request line. */
function parsePath(text: string): string {
  if (/^\/[\x21-\x7e]*$/.test(text)) return text
  throw new ParseError(`${JSON.stringify(text)} is not a path (expected printable ASCII that begins with "/")`)
}
