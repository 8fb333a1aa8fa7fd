import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { IpAddress } from '../net/ip-address.ts'
import { hostNetwork } from './built-in-networks.ts'
import type { EndpointNetworks } from './endpoint-networks.ts'
import { podOwner } from './names.ts'
import { formatLanResolvConf, formatResolvConf } from './pod-model.ts'
import type { PodRecord, PodStore } from './pod-record.ts'

/** What the host resolves names with. */
const hostResolvConf = '/etc/resolv.conf'

/** What {@link PodResolvConf} needs. */
export interface PodResolvConfOptions {
  readonly networks: Pick<EndpointNetworks, 'resolvers'>
  readonly store: PodStore
  /** What pods of our networks resolve names with. Undefined: the host's own file. */
  readonly dns: { readonly addresses: readonly IpAddress[]; readonly zone: string } | undefined
}

/** The files that pods have as /etc/resolv.conf. */
export class PodResolvConf {
  readonly #options: PodResolvConfOptions

  constructor(options: PodResolvConfOptions) {
    this.#options = options
  }

  /** Path of a pod's file, which may be the host's. */
  pathOf(record: PodRecord): string {
    const { dns, networks, store } = this.#options
    const own = record.network !== hostNetwork && (dns !== undefined || networks.resolvers !== undefined)
    return own ? store.files(record).resolvConf : hostResolvConf
  }

  /** Brings a pod's file up to date, in place and not by renaming: running pods have this very file mounted. Returns its path. */
  write(record: PodRecord): string {
    const resolvConf = this.pathOf(record)
    if (resolvConf === hostResolvConf) return resolvConf
    mkdirSync(this.#options.store.files(record).folder, { recursive: true, mode: 0o700 })
    const content = this.#contentFor(record)
    if (content !== readIfThere(resolvConf)) writeFileSync(resolvConf, content, { mode: 0o644 })
    return resolvConf
  }

  /** Of a pod that is on the LAN only, what the LAN says, or else the host. */
  #contentFor(record: PodRecord): string {
    const { dns, networks } = this.#options
    const resolvers = networks.resolvers?.(podOwner(record)) ?? 'cluster'
    if (typeof resolvers === 'object') return formatLanResolvConf(resolvers)
    if (resolvers === 'cluster' && dns) return formatResolvConf(record.namespace, dns)
    return readIfThere(hostResolvConf) ?? ''
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
