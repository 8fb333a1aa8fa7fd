import { readFileSync } from 'node:fs'
import { contenderNames } from './contender-names.ts'
import type { BenchOptions } from './options.ts'

/** Of a proxy without Services (what it has alone, beside the program that all of them share), and for each Service with what the kernel has of it; MB. */
const eachProxy = 80
const eachService = 0.01

/** About how many MB it takes when all proxies stand at all sizes at once, and how many of them there are. */
export function memoryNeeded(options: BenchOptions): { readonly proxies: number; readonly mb: number } {
  const each = contenderNames(options).filter(({ name }) => name !== 'direct').length
  const mb = options.services.reduce((sum, services) => sum + each * (eachProxy + services * eachService), 0)
  return { proxies: each * options.services.length, mb }
}

/** Why the memory that is free does not do; undefined: it does. `meminfo`: as of proc(5). */
export function whyTooLittleMemory(
  options: BenchOptions,
  meminfo: string = readFileSync('/proc/meminfo', 'utf8'),
): string | undefined {
  const { proxies, mb } = memoryNeeded(options)
  const free = (Number(/^MemAvailable: +(\d+)/m.exec(meminfo)?.[1] ?? Number.NaN) * 1024) / 1e6
  const gb = (value: number): string => (value / 1000).toFixed(1)
  // Who has no figure (MemAvailable is of Linux 3.14) may try.
  return mb > free
    ? `${proxies} proxies at once take about ${gb(mb)} GB of memory, and ${gb(free)} GB are free: choose fewer --services or --modes, or --force`
    : undefined
}
