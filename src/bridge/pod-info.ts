import type { IpAddress } from '../net/ip-address.ts'
import type { MacAddress } from '../net/mac-address.ts'
import type { Lease } from './leases.ts'
import { formatReadinessProbe } from '../probes/readiness-probe.ts'
import { podInterface } from './names.ts'
import type { PodRecord } from './pod-record.ts'
import { isReady } from './pod-model.ts'
import type { Publication } from './publication.ts'

/** A pod as it is shown to people. */
export interface PodInfo {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly network: string
  readonly ips: readonly IpAddress[]
  readonly mac: MacAddress
  /** Networks that it is in besides the first one. */
  readonly connected: readonly PodConnection[]
  /** Ports of the host that lead to it by its first network. */
  readonly published: readonly Publication[]
  /** Other names that it has in its first network. */
  readonly aliases: readonly string[]
  /** Of the supervising shell, which leads the pod's session; undefined when nothing runs. */
  readonly pid: number | undefined
  /** `exited` without a number: nobody saw the code. */
  readonly state: 'running' | 'no process' | 'exited' | `exited ${number}`
  /** It may have traffic. */
  readonly ready: boolean
  /** How it is asked whether it is ready (`tcp 80`), and why the newest attempt failed. */
  readonly readiness: { readonly probe: string; readonly reason: string | undefined } | undefined
  readonly started: string
  /** Path of the file with the command's output. */
  readonly log: string
}

/** An endpoint of a pod besides its first one. */
export interface PodConnection {
  readonly network: string
  readonly ips: readonly IpAddress[]
  readonly mac: MacAddress
  /** The link's name in the pod. */
  readonly link: string
  readonly published: readonly Publication[]
  readonly aliases: readonly string[]
}

/** Says what there is of a pod; `lease` is that of its first network, `leases` are all of its. Pure. */
export function podInfo(
  record: PodRecord,
  {
    lease,
    leases,
    log,
    notReady,
  }: {
    readonly lease: Lease
    readonly leases: readonly Lease[]
    readonly log: string
    readonly notReady: string | undefined
  },
): PodInfo {
  const { namespace, name, labels, network, process, exit, started, readinessProbe } = record
  const code = exit?.code
  const ended = code === undefined ? ('exited' as const) : (`exited ${code}` as const)
  return {
    namespace,
    name,
    labels,
    network,
    ips: lease.ips,
    mac: lease.mac,
    connected: leases
      .filter((other) => other.network !== network)
      .map(({ network, ips, mac, link = podInterface, published = [], aliases = [] }) => {
        return { network, ips, mac, link, published, aliases }
      }),
    published: lease.published ?? [],
    aliases: lease.aliases ?? [],
    pid: exit ? undefined : process?.pid,
    state: exit ? ended : process ? 'running' : 'no process',
    ready: isReady(record),
    readiness: readinessProbe && { probe: formatReadinessProbe(readinessProbe), reason: notReady },
    started,
    log,
  }
}
