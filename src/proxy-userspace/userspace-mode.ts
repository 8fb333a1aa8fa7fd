import { readFileSync } from 'node:fs'
import { systemClock, type Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { NftClient } from '../nftables/client.ts'
import { openRtnetlink } from '../rtnetlink/rtnetlink.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type {
  CleanupOptions,
  Dataplane,
  Evidence,
  ExplainHost,
  PacketAtNode,
  Plan,
  ProbeResult,
  SyncOptions,
  SyncResult,
} from '../proxy/dataplane.ts'
import { servicesTable } from '../proxy-nftables/nftables-sets.ts'
import { NftablesMode } from '../proxy-nftables/nftables-mode.ts'
import { redirectServices, type RedirectedServices } from './redirect-services.ts'
import { RelayAddresses, relayAddresses } from '../proxy/relay-addresses.ts'
import { renamedTable } from './renamed-table.ts'
import { ServiceRelays, type RelayLimits } from '../proxy/service-relays.ts'

/** Our table of redirects; the same rules as the nftables mode's. */
export const userspaceTable = 'fairlead-userspace'

/**
 * The userspace mode, kube-proxy's first: connections end at this daemon, which makes others to the endpoints. What brings
 * them here is another mode, given Services whose only endpoint is this daemon: policies, source ranges, refusals and
 * node ports are that mode's, and the same. See README.md.
 */
export class UserspaceMode implements Dataplane, Disposable {
  readonly name = 'userspace'
  readonly #redirect: Dataplane
  readonly #addresses: RelayAddresses
  readonly #clock: Clock
  readonly #log: Log
  readonly #relays: ServiceRelays
  #redirected: RedirectedServices | undefined

  constructor(options: {
    /** Brings connections here. */
    readonly redirect: Dataplane
    readonly addresses: RelayAddresses
    readonly limits: RelayLimits
    readonly clock: Clock
    readonly log: Log
  }) {
    this.#redirect = options.redirect
    this.#addresses = options.addresses
    this.#clock = options.clock
    this.#log = options.log
    this.#relays = new ServiceRelays({ ...options, addresses: relayAddresses })
  }

  get redirected(): CompiledServices | undefined {
    return this.#redirected?.to
  }

  async probe(): Promise<ProbeResult> {
    const { limits, ...found } = await this.#redirect.probe()
    // Clients are remembered and hashed here, not where they are redirected.
    const others = limits.filter((limit) => !/^(session affinity|algorithm)\b/.test(limit))
    return { ...found, limits: [...userspaceLimits, ...others] }
  }

  async plan(services: CompiledServices): Promise<Plan> {
    const { to } = redirectServices(services, (frontend, view) => this.#relays.listenerOf(frontend, view), undefined)
    return await this.#redirect.plan(to)
  }

  async sync(services: CompiledServices, options: SyncOptions = {}): Promise<SyncResult> {
    await this.#relays.open(services, await this.#addresses.ensure())
    const listenerOf: Parameters<typeof redirectServices>[1] = (frontend, view) =>
      this.#relays.listenerOf(frontend, view)
    const redirected = redirectServices(services, listenerOf, this.#redirected)
    this.#redirected = redirected
    const result = await this.#redirect.sync(redirected.to, options)
    this.#relays.settle(services)
    return result
  }

  /** What brings the packet to this process. */
  async explain(_services: CompiledServices, packet: PacketAtNode, host: ExplainHost): Promise<Evidence> {
    const found = this.#redirected && (await this.#redirect.explain?.(this.#redirected.to, packet, host))
    return found ?? { lines: [], differences: [] }
  }

  watch(listener: () => void): void {
    this.#redirect.watch?.(listener)
  }

  /**
   * TCP connections go on while this daemon runs, and the addresses that they need stay as long. Connections that are being made
   * just now still come here: it listens for a while.
   */
  async cleanup(options?: CleanupOptions): Promise<void> {
    await this.#redirect.cleanup(options)
    this.#redirected = undefined
    this.#clock.after(lateConnections, () => {
      // Unless this mode has been taken again meanwhile.
      if (this.#redirected) return
      this.#relays.close()
      this.#removeAddresses()
    })
  }

  /** Ends all connections. What is in the kernel stays, so that nothing meets a closed port but a refusal. */
  [Symbol.dispose](): void {
    this.#relays[Symbol.dispose]()
  }

  #removeAddresses(): void {
    if (this.#redirected) return
    if (this.#relays.connections.used > 0) this.#clock.after(removalInterval, () => this.#removeAddresses())
    // Nobody waits for this; what it leaves behind, a later cleanup finds by name.
    else
      this.#addresses
        .remove()
        .catch((error: unknown) => this.#log.warn({ err: error }, 'cannot remove our addresses of lo'))
  }
}

/** A lost SYN is sent again after a second, and once more two later; in ms. */
const lateConnections = 3500

/** How often it is looked whether the last connection has ended, in ms. */
const removalInterval = 1000

/** The userspace mode of this process and its network namespace. */
export function openUserspaceMode(options: { readonly redirect: Dataplane; readonly log: Log }): UserspaceMode {
  const { redirect, log } = options
  return new UserspaceMode({
    redirect,
    addresses: new RelayAddresses({ rtnetlink: openRtnetlink, log }),
    limits: limitsFor(openFilesLimit()),
    clock: systemClock,
    log,
  })
}

/** What redirects by nf_tables, in a table of its own: the nftables mode may be there beside it. */
export function nftablesRedirect(nft: NftClient, options: { readonly log: Log }): Dataplane {
  return new NftablesMode(renamedTable(nft, { as: servicesTable, kernelName: userspaceTable }), options)
}

/** As much as sockets allow: a quarter of them is for the rest of the daemon. */
export function limitsFor(openFiles: number): RelayLimits {
  const sockets = Math.floor((openFiles * 3) / 4)
  return {
    connections: Math.min(20_000, Math.floor(sockets / 3)),
    clients: Math.min(10_000, Math.floor(sockets / 3)),
    buffered: 256 << 20,
  }
}

/** RLIMIT_NOFILE of this process: Node raises the soft limit to the hard one at its start. */
function openFilesLimit(): number {
  const match = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))
  return match ? Number(match[1]) : 1024
}

/** What this mode cannot do, each with its reason. */
const userspaceLimits: readonly string[] = [
  'source address: endpoints see an address of this node, never the client’s, since the daemon makes the connection; externalTrafficPolicy Local chooses endpoints as always',
  'connections end with the daemon: its process carries every byte; without it new ones are refused',
  'session affinity is forgotten when the daemon stops: it is in its memory',
  'a client is connected before its endpoint is: where no endpoint accepts, it is reset later instead of refused',
  'UDP: an endpoint’s ICMP refusal does not reach the client, since it belongs to the daemon’s own socket',
  'SCTP is translated by the kernel as in the mode that redirects, since Node has no SCTP sockets',
]
