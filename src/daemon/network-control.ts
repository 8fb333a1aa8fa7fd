import { isDeepStrictEqual } from 'node:util'
import type { Clock, Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { SharedMap } from '../base/shared-map.ts'
import type { HostNetworks } from '../bridge/host-networks.ts'
import { isBuiltIn } from '../bridge/built-in-networks.ts'
import { NetworkConflictError, NetworkError } from '../bridge/check-network.ts'
import { leaseKey } from '../bridge/leases.ts'
import { portOf } from '../bridge/names.ts'
import { parseNetworkSpec, type NetworkStore } from '../bridge/network-store.ts'
import { formatPublication } from '../bridge/publication.ts'
import type { DhcpLease } from '../dhcp/lease.ts'
import type { NetworkManifest } from '../model/network.ts'
import { formatCidr } from '../net/cidr.ts'
import type { NetworkDetailsView, NetworkRequest, NetworkSummaryView } from './control-api.ts'
import { describeNetwork } from './describe-network.ts'
import type { EventLog } from './events.ts'
import { HttpError } from './http-server.ts'

/** What {@link NetworkControl.serve} takes up. */
interface Served {
  readonly networks: HostNetworks
  readonly store: NetworkStore
  /** Networks that stand in the configuration: they go when they are taken out there. */
  readonly configured: ReadonlySet<string>
  readonly log: Log
  readonly clock: Clock
  /** Called after each change of what networks there are. */
  readonly onChange: () => void
}

/** How long after what could not be done it is tried again, ms. */
const retryMs = 1000

/** The networks as the control socket and the command line see them. Refuses, with reason, until {@link serve} was called. */
export class NetworkControl implements AsyncDisposable {
  readonly #events: EventLog
  #served: Served | undefined
  #refusal = 'the daemon is starting'
  #wanted: SharedMap<NetworkManifest> | undefined
  #applying: Promise<void> | undefined
  #retry: Timer | undefined
  /** What could not be done at the last look, by network: logged once. */
  #problems: ReadonlyMap<string, string> = new Map()

  constructor(events: EventLog) {
    this.#events = events
  }

  /** Takes up work on these networks; without any, the configuration has none. */
  serve(served: Served | undefined): void {
    this.#served = served
    this.#refusal = 'there is no network: network.enabled is false in the configuration'
  }

  /** Ends what is under way; nothing is tried again. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#retry?.cancel()
    this.#wanted = undefined
    await this.#applying
    this.#retry?.cancel()
    this.#served = undefined
    this.#refusal = 'the daemon is stopping'
  }

  list(): NetworkSummaryView[] {
    const served = this.#served
    return served?.networks.status().map((status) => summary(status, served)) ?? []
  }

  /** Throws {@link HttpError}. */
  async inspect(name: string): Promise<NetworkDetailsView> {
    const served = this.#need()
    const status = served.networks.status().find(({ network }) => network.name === name)
    if (!status) {
      const builtIn = `network ${name} is always there, and has no options`
      throw new HttpError(404, isBuiltIn(name) ? builtIn : `there is no network ${name}`)
    }
    const states = await served.networks.inspect(name)
    const endpoints = [...served.networks.leases.values()].filter(({ network }) => network === name)
    const { network } = status
    return {
      ...summary(status, served),
      ...(network.driver === 'bridge' && {
        mac: network.mac,
        hairpin: network.hairpin,
        followsUplink: network.followsUplink,
      }),
      interfaceName: network.interfaceName,
      pools: status.pools,
      attached: endpoints.map((lease) => ({
        owner: lease.owner,
        ips: lease.ips,
        mac: lease.mac,
        published: lease.published?.map(formatPublication) ?? [],
        aliases: lease.aliases ?? [],
        netns: lease.netns,
        // Attached a moment ago: it has a lease, and was not there yet.
        ...(states.get(leaseKey(lease)) ?? { port: portOf(lease), state: 'missing' }),
        ...dhcpView(served.networks.lan.dhcpLease(lease)),
      })),
    }
  }

  /** Throws {@link HttpError}. */
  async create({ name, ...spec }: NetworkRequest): Promise<NetworkSummaryView> {
    await this.#with(async ({ networks, store, onChange }) => {
      const settings = parseNetworkSpec({ name, spec })
      await networks.add(settings)
      try {
        store.put({ name, origin: 'command', spec })
      } catch (error) {
        await networks.remove(name)
        throw error
      }
      onChange()
    })
    const made = await this.inspect(name)
    this.#events.add('network', `${name} is up: ${describeNetwork(made)}`)
    return made
  }

  /** Throws {@link HttpError}. */
  async remove(name: string): Promise<void> {
    await this.#with(async ({ networks, store, configured, onChange }) => {
      if (!networks.names.includes(name)) {
        if (isBuiltIn(name)) throw new HttpError(409, `network ${name} is always there and cannot be removed`)
        if (!store.networks.has(name)) throw new HttpError(404, `there is no network ${name}`)
      } else if (configured.has(name)) {
        throw new HttpError(
          409,
          `network ${name} stands in the configuration (take it out there, and restart the daemon)`,
        )
      } else if (store.networks.get(name)?.origin === 'manifest') {
        throw new HttpError(409, `network ${name} stands in a manifest (take it out there)`)
      }
      await networks.remove(name)
      store.delete(name)
      this.#events.add('network', `${name} is removed`)
      onChange()
    })
  }

  /**
   * Makes the networks of the manifests what they are in this snapshot: new ones are made, those that are gone are removed,
   * changed ones are made anew. What cannot be done is logged, and tried again with the next snapshot.
   */
  async apply(manifests: SharedMap<NetworkManifest>): Promise<void> {
    this.#retry?.cancel()
    this.#wanted = manifests
    // One at a time; what comes meanwhile is looked at once more.
    this.#applying ??= (async () => {
      while (this.#wanted) {
        const wanted = this.#wanted
        this.#wanted = undefined
        await this.#applyAll(wanted)
      }
    })().finally(() => (this.#applying = undefined))
    await this.#applying
  }

  async #applyAll(manifests: SharedMap<NetworkManifest>): Promise<void> {
    const served = this.#served
    if (!served) return
    const { networks, store, configured, onChange } = served
    const problems = new Map<string, string>()
    let changed = false
    const attempt = async (name: string, what: string, work: () => Promise<void>): Promise<void> => {
      try {
        await work()
        changed = true
        this.#events.add('network', `${name} is ${what}`)
      } catch (error) {
        problems.set(name, (error as Error).message)
        if (this.#problems.get(name) === (error as Error).message) return
        served.log.error({ network: name, err: error }, `Network ${name} of a manifest: ${(error as Error).message}`)
      }
    }
    const present = new Set(networks.names)
    for (const { name, origin, spec } of store.networks.values()) {
      if (origin !== 'manifest') continue
      const manifest = manifests.get(name)
      if (manifest && isDeepStrictEqual(manifest.spec, spec) && present.has(name)) continue
      await attempt(name, 'removed', async () => {
        await networks.remove(name)
        store.delete(name)
      })
    }
    for (const [name, { spec }] of manifests) {
      if (store.networks.get(name)?.origin === 'manifest') continue
      await attempt(name, 'made', async () => {
        if (configured.has(name))
          throw new NetworkConflictError('name', 'the configuration has one of that name, which counts')
        await networks.add(parseNetworkSpec({ name, spec }))
        store.put({ name, origin: 'manifest', spec })
      })
    }
    this.#problems = problems
    // A network that is in use becomes free without a word from the manifests.
    if (problems.size > 0) this.#retry = served.clock.after(retryMs, () => void this.apply(this.#wanted ?? manifests))
    if (changed) onChange()
  }

  #need(): Served {
    if (!this.#served) throw new HttpError(503, this.#refusal)
    return this.#served
  }

  async #with(work: (served: Served) => Promise<void>): Promise<void> {
    try {
      await work(this.#need())
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error
      const status = error instanceof NetworkConflictError ? 409 : 400
      throw new HttpError(status, error.message, { cause: error })
    }
  }
}

function summary(
  { network, endpoints }: ReturnType<HostNetworks['status']>[number],
  { configured, store }: Served,
): NetworkSummaryView {
  const { name, driver, subnets, mtu, labels } = network
  return {
    name,
    driver,
    ...(network.driver === 'bridge'
      ? { bridge: network.bridge }
      : { parent: network.parent, mode: network.mode, addresses: network.addresses }),
    origin: configured.has(name) ? 'configuration' : (store.networks.get(name)?.origin ?? 'configuration'),
    subnets: subnets.map(({ cidr, gateway, range, aux }) => ({
      subnet: formatCidr(cidr),
      gateway,
      ...(range && { ipRange: formatCidr(range) }),
      ...(aux && { auxAddresses: aux }),
    })),
    ...(mtu !== undefined && { mtu }),
    ...(network.driver === 'bridge' && {
      internal: network.internal,
      icc: network.icc,
      masquerade: network.masquerade,
      gatewayMode: { ipv4: network.gatewayModes[4], ipv6: network.gatewayModes[6] },
    }),
    labels,
    endpoints,
  }
}

function dhcpView(lease: DhcpLease | undefined): Pick<NetworkDetailsView['attached'][number], 'dhcp'> {
  if (!lease) return {}
  const { server, obtainedAt, expiresAfter } = lease
  const expires = Number.isFinite(expiresAfter) ? { expires: new Date(obtainedAt + expiresAfter).toISOString() } : {}
  return { dhcp: { server, ...expires } }
}
