import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import type { Log } from '../base/log.ts'
import { readSysctl, SysctlError, writeSysctl } from '../linux/sysctl.ts'

/** The machine's connection tracking as kube-proxy sets it at its start; 0 leaves a value as it is. */
export interface ConntrackSettings {
  readonly maxPerCore: number
  readonly min: number
  readonly tcpEstablishedTimeoutMs: number
  readonly tcpCloseWaitTimeoutMs: number
  readonly tcpBeLiberal: boolean
  readonly udpTimeoutMs: number
  readonly udpStreamTimeoutMs: number
}

/** kube-proxy's bound for machines with many cores (pkg/proxy/conntrack/sysctls.go). */
const mostEntries = 1_048_576

/** The sysctls below `net.netfilter` that the settings mean, each with its value. */
export function conntrackSysctls(settings: ConntrackSettings, cores: number): ReadonlyMap<string, number> {
  const seconds = (ms: number): number => Math.floor(ms / 1000)
  const most =
    settings.maxPerCore === 0 ? 0 : Math.min(mostEntries, Math.max(settings.min, settings.maxPerCore * cores))
  const values: readonly (readonly [string, number])[] = [
    ['nf_conntrack_max', most],
    ['nf_conntrack_tcp_timeout_established', seconds(settings.tcpEstablishedTimeoutMs)],
    ['nf_conntrack_tcp_timeout_close_wait', seconds(settings.tcpCloseWaitTimeoutMs)],
    ['nf_conntrack_tcp_be_liberal', Number(settings.tcpBeLiberal)],
    ['nf_conntrack_udp_timeout', seconds(settings.udpTimeoutMs)],
    ['nf_conntrack_udp_timeout_stream', seconds(settings.udpStreamTimeoutMs)],
  ]
  return new Map(values.filter(([, value]) => value > 0))
}

/**
 * Writes what differs. What cannot be written (in a network namespace of its own, nf_conntrack_max belongs to the first
 * one) is a warning: Services work without it.
 */
export function applyConntrackSettings(settings: ConntrackSettings, log: Log): void {
  for (const [name, value] of conntrackSysctls(settings, availableParallelism())) {
    const sysctl = `net.netfilter.${name}`
    try {
      if (Number(readSysctl(sysctl)) === value) continue
      writeSysctl(sysctl, value)
      log.info({ sysctl, value }, 'set a sysctl of connection tracking')
      if (name === 'nf_conntrack_max') growHash(value / 4, log)
    } catch (error) {
      if (!(error instanceof SysctlError)) throw error
      log.warn({ sysctl, value, err: error }, `conntrack: ${error.message}`)
    }
  }
}

const hashSizeFile = '/sys/module/nf_conntrack/parameters/hashsize'

/** Four entries a bucket at most. */
function growHash(buckets: number, log: Log): void {
  try {
    if (Number(readFileSync(hashSizeFile, 'utf8')) >= buckets) return
    writeFileSync(hashSizeFile, `${Math.floor(buckets)}`, { flag: 'r+' })
  } catch (error) {
    log.warn({ err: error, file: hashSizeFile }, 'conntrack: the hash table cannot be made larger')
  }
}
