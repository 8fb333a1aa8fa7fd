import { pino } from 'pino'
import type { Log } from '../base/log.ts'
import type { LogLevel } from './config.ts'

/** Where log lines go: stderr, or a test's array. */
export interface LogDestination {
  write(line: string): void
}

/**
 * The daemon's logger: pino, one JSON object a line, or with format `text` one line for people:
 * `12:03:58.120 info  services synced  elements=7 kernelMs=0.4`.
 */
export function createLogger(
  options: { level: LogLevel; format: 'text' | 'json' },
  destination: LogDestination = process.stderr,
): Log {
  const settings = { level: options.level, base: null, timestamp: pino.stdTimeFunctions.isoTime }
  if (options.format === 'json')
    return pino({ ...settings, formatters: { level: (label) => ({ level: label }) } }, destination)
  return pino(
    { ...settings, formatters: { level: (label) => ({ level: label }) } },
    { write: (line: string) => destination.write(`${toText(JSON.parse(line) as Record<string, unknown>)}\n`) },
  )
}

function toText({ time, level, msg, err, ...fields }: Record<string, unknown>): string {
  const parts = [String(time).slice(11, 23), String(level).padEnd(5), typeof msg === 'string' ? msg : '']
  const shown = Object.entries(fields).map(([key, value]) => `${key}=${showValue(value)}`)
  if (typeof err === 'object' && err !== null && 'message' in err) shown.push(`error=${showValue(err.message)}`)
  return shown.length > 0 ? `${parts.join(' ')}  ${shown.join(' ')}` : parts.join(' ')
}

function showValue(value: unknown): string {
  if (typeof value === 'string') return /[\s"=]/.test(value) || value === '' ? JSON.stringify(value) : value
  return JSON.stringify(value) ?? String(value)
}
