import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock, type Clock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { DhcpClient, LeaseStorage } from '../dhcp/dhcp-client.ts'
import type { DhcpLease } from '../dhcp/lease.ts'
import { openDhcpClient } from '../dhcp/open-dhcp-client.ts'
import { openNetns, type Netns } from '../linux/netns.ts'
import type { MacAddress } from '../net/mac-address.ts'
import { openRtnetlink } from '../rtnetlink/rtnetlink.ts'
import { applyDhcpLease } from './apply-dhcp-lease.ts'
import { leaseKey, type LeaseKey } from './leases.ts'
import type { Owner } from './names.ts'
import { readStateFile, removeStateFile, writeStateFile } from './state-file.ts'

/** A link in a pod that gets its address from the LAN. The link must be there and up. */
export interface DhcpEndpoint {
  readonly owner: Owner
  readonly network: string
  /** Path of the namespace. */
  readonly netns: string
  /** The link's name in it. */
  readonly link: string
  readonly mac: MacAddress
  /** What the server is told as the client's name. */
  readonly hostname: string
}

/** What {@link DhcpEndpoints} needs. */
export interface DhcpEndpointsOptions {
  /** Leases are kept in its folder `dhcp`. */
  readonly stateDir: string
  /** Called after the link has what the lease says, and after it lost it. Must not throw. */
  readonly onChange: (endpoint: DhcpEndpoint, lease: DhcpLease | undefined) => void
  /** Whether the default route of a lease is wanted: another endpoint of the pod may have it. @default yes */
  readonly leadsOut?: (endpoint: DhcpEndpoint) => boolean
  readonly log: Log
  readonly clock?: Clock
  /** Milliseconds that {@link DhcpEndpoints.attach} waits for a lease. @default 20000 */
  readonly timeoutMs?: number
  /** @default 500 */
  readonly conflictCheckMs?: number
}

/** No server gave a lease in time. Nothing of the attempt is left. */
export class NoDhcpLeaseError extends Error {
  override readonly name = 'NoDhcpLeaseError'
}

interface Entry {
  readonly endpoint: DhcpEndpoint
  readonly netns: Netns
  client: DhcpClient | undefined
  /** What was heard of the client is done one after the other. */
  work: Promise<void>
  /** Whether the link has what its lease says. */
  applied: DhcpLease | undefined
  /** Hears of the first lease that is on the link. */
  onApplied: (lease: DhcpLease) => void
}

/**
 * The endpoints of a host whose addresses come from DHCP servers: takes leases, puts them on links, and gives them back. It
 * works on links that somebody else makes, in this order: `createLanLink` (which says the MAC address), {@link DhcpEndpoints.attach};
 * {@link DhcpEndpoints.detach}, `deleteLanLink`; after a start of the daemon {@link DhcpEndpoints.resume} with all endpoints that it keeps.
 */
export class DhcpEndpoints implements AsyncDisposable {
  readonly #options: DhcpEndpointsOptions
  readonly #clock: Clock
  readonly #folder: string
  readonly #entries = new Map<LeaseKey, Entry>()

  constructor(options: DhcpEndpointsOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#folder = join(options.stateDir, 'dhcp')
  }

  /** The lease that is on an endpoint's link. */
  lease(endpoint: Pick<DhcpEndpoint, 'owner' | 'network'>): DhcpLease | undefined {
    return this.#entries.get(leaseKey(endpoint))?.applied
  }

  /** Takes a lease and puts it on the link. Throws {@link NoDhcpLeaseError}, ENOENT for a namespace that is not there. */
  async attach(endpoint: DhcpEndpoint): Promise<DhcpLease> {
    // A lease of an endpoint that had the same name is not this one's.
    removeStateFile(this.#file(endpoint))
    const first = Promise.withResolvers<DhcpLease>()
    const { timeoutMs = 20_000 } = this.#options
    this.#start(endpoint, first.resolve)
    const timer: Timer = this.#clock.after(timeoutMs, () => {
      const on = `link ${endpoint.link} of ${endpoint.owner}`
      first.reject(new NoDhcpLeaseError(`no DHCP server gave ${on} an address within ${timeoutMs / 1000} s`))
    })
    try {
      return await first.promise
    } catch (error) {
      await this.detach(endpoint)
      throw error
    } finally {
      timer.cancel()
    }
  }

  /**
   * Takes over the endpoints that an earlier daemon left, with the leases that it kept: links keep their addresses while the
   * servers are asked. Leases of other endpoints are forgotten. Resolves when the kept leases are on the links.
   */
  async resume(endpoints: readonly DhcpEndpoint[]): Promise<void> {
    const files = new Set(endpoints.map((endpoint) => this.#file(endpoint)))
    for (const file of this.#files()) if (!files.has(file)) removeStateFile(file)
    for (const endpoint of endpoints) {
      try {
        this.#start(endpoint, () => {})
      } catch (error) {
        this.#options.log.warn({ owner: endpoint.owner, err: error }, 'Cannot take over a DHCP endpoint')
      }
    }
    await Promise.all(Array.from(this.#entries.values(), ({ work }) => work))
  }

  /** Puts on the link again what its lease says: for the repair of what others changed. Throws NetlinkError. */
  async repair(endpoint: Pick<DhcpEndpoint, 'owner' | 'network'>): Promise<void> {
    const entry = this.#entries.get(leaseKey(endpoint))
    if (!entry) return
    const work = entry.work.then(async () => {
      const lease = entry.client?.lease
      if (!lease) return
      await this.#apply(entry, lease)
      entry.applied = lease
    })
    entry.work = work.catch(() => {})
    await work
  }

  /** Gives the lease back and forgets the endpoint; one that is not there is no error. Before the link is taken away. */
  async detach(endpoint: Pick<DhcpEndpoint, 'owner' | 'network'>): Promise<void> {
    const key = leaseKey(endpoint)
    const entry = this.#entries.get(key)
    if (!entry) return
    this.#entries.delete(key)
    entry.client?.release()
    await entry.work
    entry.netns[Symbol.dispose]()
  }

  /** Stops, and keeps leases and addresses for the next daemon. */
  async [Symbol.asyncDispose](): Promise<void> {
    const entries = [...this.#entries.values()]
    this.#entries.clear()
    for (const { client } of entries) client?.[Symbol.dispose]()
    await Promise.all(entries.map(({ work }) => work))
    for (const { netns } of entries) netns[Symbol.dispose]()
  }

  #start(endpoint: DhcpEndpoint, onApplied: (lease: DhcpLease) => void): void {
    const key = leaseKey(endpoint)
    if (this.#entries.has(key)) throw new Error(`${endpoint.owner} has a DHCP endpoint in ${endpoint.network} already`)
    const netns = openNetns(endpoint.netns)
    const entry: Entry = { endpoint, netns, client: undefined, work: Promise.resolve(), applied: undefined, onApplied }
    this.#entries.set(key, entry)
    try {
      entry.client = this.#openClient(entry)
    } catch (error) {
      this.#entries.delete(key)
      netns[Symbol.dispose]()
      throw error
    }
  }

  #openClient(entry: Entry): DhcpClient {
    const { endpoint, netns } = entry
    const { log, conflictCheckMs } = this.#options
    return openDhcpClient({
      link: endpoint.link,
      netns,
      mac: endpoint.mac,
      hostname: endpoint.hostname,
      storage: this.#storage(endpoint),
      log: log.child({ owner: endpoint.owner, network: endpoint.network }),
      clock: this.#clock,
      ...(conflictCheckMs !== undefined && { conflictCheckMs }),
      events: {
        bound: (lease) => this.#put(entry, lease),
        changed: (lease) => this.#put(entry, lease),
        lost: () => this.#put(entry, undefined),
      },
    })
  }

  #put(entry: Entry, lease: DhcpLease | undefined): void {
    const { endpoint } = entry
    const { owner } = endpoint
    entry.work = entry.work.then(async () => {
      try {
        await this.#apply(entry, lease)
      } catch (error) {
        this.#options.log.error({ owner, link: endpoint.link, err: error }, 'Cannot put a DHCP lease on its link')
        // An address that is lost is not ours any more, wherever it still is.
        if (lease) return
      }
      entry.applied = lease
      if (lease) entry.onApplied(lease)
      this.#options.onChange(endpoint, lease)
    })
  }

  async #apply({ endpoint, netns }: Entry, lease: DhcpLease | undefined): Promise<void> {
    const { leadsOut = () => true } = this.#options
    using rtnetlink = openRtnetlink({ netns })
    await applyDhcpLease(rtnetlink, { link: endpoint.link, lease, leadsOut: leadsOut(endpoint) })
  }

  #storage(endpoint: DhcpEndpoint): LeaseStorage {
    const file = this.#file(endpoint)
    return {
      load: () => readStateFile(file),
      save: (text) => writeStateFile(file, text),
      clear: () => removeStateFile(file),
    }
  }

  #file(endpoint: Pick<DhcpEndpoint, 'owner' | 'network'>): string {
    return join(this.#folder, encodeURIComponent(leaseKey(endpoint)))
  }

  #files(): string[] {
    try {
      return readdirSync(this.#folder).map((name) => join(this.#folder, name))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw error
    }
  }
}
