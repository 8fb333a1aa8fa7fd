import type { Log } from '../base/log.ts'
import type { BridgeSettings } from '../model/network.ts'
import { cidrContains, formatCidr, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import { readHostFacts } from './host-facts.ts'
import type { BridgeKernel } from './kernel.ts'
import { leaseKey, type Lease, type LeaseJournal } from './leases.ts'
import { NetworkConflictError, NetworkError } from './check-network.ts'
import { defineNetwork, takenOn, type HostFacts, type Network } from './network.ts'
import type { TakenRanges } from './taken-ranges.ts'

/** What is wanted of a host, and what must be known to decide it. */
export interface HostWish {
  /** The first one carries the service addresses. */
  readonly networks: readonly BridgeSettings[]
  /** Networks that are left out, with an error in the log, when they cannot be had, unless an endpoint is in them. */
  readonly optional?: readonly BridgeSettings[]
  /** Addresses that the host serves on the first bridge, like the cluster DNS address. */
  readonly serviceAddresses?: readonly IpAddress[]
  /** Ranges that no subnet may overlap although they have no route, like Service addresses. */
  readonly reserved?: HostFacts['reserved']
  /** As in /etc/machine-id. */
  readonly machineId: string
  /** As in /proc/sys/kernel/random/boot_id. */
  readonly bootId: string
  /** The caller's: it is not disposed here. */
  readonly kernel: BridgeKernel
  readonly log: Log
  /** Whether a lease of this boot, whose namespace exists, is still wanted. Those that are not are reclaimed. */
  readonly keepLease: (lease: Lease) => boolean
}

/**
 * Decides all networks, each beside the others, with the subnets that they had before. Of a network with endpoints these
 * stay although a route overlaps them by now (a VPN, say): to refuse it would cost a restart of the daemon all networks.
 * Throws NetworkError for settings that cannot be used on this host.
 */
export async function defineNetworks(
  options: HostWish,
  before: { readonly previous: ReadonlyMap<string, readonly Cidr[]>; readonly leases: readonly Lease[] },
): Promise<Network[]> {
  const facts = await factsFor(options)
  const { networks: needed, optional = [], log } = options
  const taken = takenFrom(facts, new Set([...needed, ...optional].map(({ bridge }) => bridge)))
  /** The same without routes. */
  const settled = takenOn({ routes: [], reserved: facts.reserved })
  const held = Map.groupBy(before.leases, ({ network }) => network)
  const networks: Network[] = []
  const owners = new Map<string, string>()
  const define = (settings: BridgeSettings): void => {
    const { name, bridge } = settings
    const keys = [`network ${name}`, `bridge ${bridge}`]
    const twin = keys.map((key) => owners.get(key)).find((owner) => owner !== undefined)
    if (twin !== undefined) {
      throw new NetworkError('name', `networks ${twin} and ${name} share a name or the bridge ${bridge}`)
    }
    const decide = (ranges: TakenRanges): Network =>
      defineNetwork(settings, { ...facts, taken: ranges, previous: before.previous.get(name) ?? [] })
    const leases = held.get(name)
    const network = leases ? keepFor(leases, { decide, taken, settled, log }) : decide(taken)
    for (const { cidr } of network.subnets) {
      for (const ranges of [taken, settled]) ranges.add(cidr, `subnet ${formatCidr(cidr)} of network ${name}`)
    }
    for (const key of keys) owners.set(key, name)
    networks.push(network)
  }
  for (const settings of needed) define(settings)
  for (const settings of optional) {
    try {
      define(settings)
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error
      log.error({ network: settings.name, err: error }, `Network ${settings.name} cannot be had: ${error.message}`)
    }
  }
  return networks
}

/** A network with endpoints: beside the routes if its endpoints keep their addresses then, or else in spite of them. */
function keepFor(
  leases: readonly Lease[],
  context: {
    readonly decide: (taken: TakenRanges) => Network
    readonly taken: TakenRanges
    readonly settled: TakenRanges
    readonly log: Log
  },
): Network {
  const { decide, taken, settled, log } = context
  try {
    const network = decide(taken)
    checkLeases(leases, [network])
    return network
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error
    const network = decide(settled)
    checkLeases(leases, [network])
    const { name, subnets } = network
    const overlaps = subnets.flatMap(({ cidr }) => taken.find(cidr) ?? [])
    log.warn(
      { network: name, subnets: subnets.map(({ cidr }) => formatCidr(cidr)), overlaps },
      `Network ${name} keeps its subnets although ${overlaps.join(' and ')} overlaps them: endpoints are in it`,
    )
    return network
  }
}

/** Decides one more network beside those that are there. Throws NetworkError. */
export async function defineAnother(
  settings: BridgeSettings,
  present: readonly Network[],
  options: Pick<HostWish, 'kernel' | 'machineId' | 'reserved' | 'serviceAddresses'>,
): Promise<Network> {
  const { name, bridge } = settings
  const twin = present.find((other) => other.name === name || other.bridge === bridge)
  if (twin?.name === name) throw new NetworkConflictError('name', `network ${name} exists already`)
  if (twin) throw new NetworkError('bridge', `bridge ${bridge} of network ${name} is that of network ${twin.name}`)
  const facts = await factsFor(options)
  const bridges = new Set([bridge, ...present.map(({ bridge }) => bridge)])
  const taken = takenFrom(facts, bridges)
  for (const { name, subnets } of present) {
    for (const { cidr } of subnets) taken.add(cidr, `subnet ${formatCidr(cidr)} of network ${name}`)
  }
  return defineNetwork(settings, { ...facts, taken })
}

async function factsFor(
  options: Pick<HostWish, 'kernel' | 'machineId' | 'reserved' | 'serviceAddresses'>,
): Promise<HostFacts> {
  const { kernel, machineId, reserved = [], serviceAddresses = [] } = options
  const addresses = serviceAddresses.map((ip) => ({
    range: { address: ip, prefix: ipFamilyOf(ip) === 4 ? 32 : 128 },
    what: `the service address ${ip}`,
  }))
  return await readHostFacts(kernel, { machineId, previous: [], reserved: [...reserved, ...addresses] })
}

/** Routes of our own bridges are no obstacle, and may be about to go. */
function takenFrom(facts: HostFacts, bridges: ReadonlySet<string>): TakenRanges {
  const routes = facts.routes.filter(({ device }) => device === undefined || !bridges.has(device))
  return takenOn({ routes, reserved: facts.reserved })
}

/** Forgets the leases of an older boot, of namespaces that are gone, and those that the caller does not keep. */
export async function reclaimLeases(
  journal: LeaseJournal,
  options: Pick<HostWish, 'kernel' | 'log' | 'bootId' | 'keepLease'>,
): Promise<void> {
  const { kernel, log, bootId, keepLease } = options
  const gone = [...journal.leases.values()].filter((lease) => {
    if (lease.bootId !== bootId || !keepLease(lease)) return true
    try {
      using _namespace = kernel.openNamespace(lease.netns)
      return false
    } catch (error) {
      // EINVAL: the name is a plain file, with no namespace mounted on it.
      if (['ENOENT', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? '')) return true
      throw error
    }
  })
  await journal.remove(gone.map(leaseKey))
  for (const { owner, network, ips } of gone) {
    log.info({ owner, network, ips }, `Reclaimed the lease of ${owner}, which is gone`)
  }
}

/** Pods cannot move to another subnet or address while they run. Throws NetworkError that names the pod. */
export function checkLeases(leases: Iterable<Lease>, networks: readonly Network[]): void {
  const byName = new Map(networks.map((network) => [network.name, network]))
  for (const { owner, network: name, ips } of leases) {
    const network = byName.get(name)
    const subnets = network?.subnets.map(({ cidr }) => cidr) ?? []
    const inside = network && ips.every((ip) => subnets.some((cidr) => cidrContains(cidr, ip)))
    const lost = network?.subnets.flatMap(({ gateway, aux = [] }) => [gateway, ...aux]).find((ip) => ips.includes(ip))
    if (inside === true && lost === undefined) continue
    if (inside === true) {
      const advice = 'remove the pod first, or choose another address'
      throw new NetworkError(
        'gateways',
        `${owner} has ${lost}, the gateway or an auxiliary address of network ${name} now (${advice})`,
      )
    }
    const now = network ? `has subnet ${subnets.map(formatCidr).join(' and ')} now` : 'is not there any more'
    throw new NetworkError(
      'subnets',
      `${owner} has ${ips.join(' and ')} in network ${name}, which ${now} (remove the pod first, or keep the subnet)`,
    )
  }
}
