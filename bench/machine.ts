import { cpus, loadavg, release, totalmem } from 'node:os'

/** What a reader must know to judge the figures. */
export interface MachineFacts {
  readonly date: string
  readonly kernel: string
  readonly cpu: string
  readonly cpus: number
  readonly memoryGb: number
  readonly node: string
  /** Load average of the last minute, before the run. */
  readonly load: number
}

export function machineFacts(): MachineFacts {
  const all = cpus()
  return {
    date: new Date().toISOString(),
    kernel: release(),
    cpu: all[0]?.model ?? 'unknown',
    cpus: all.length,
    memoryGb: Math.round(totalmem() / 1e9),
    node: process.versions.node,
    load: Math.round((loadavg()[0] ?? 0) * 100) / 100,
  }
}
