import type { Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import { changedServices } from '../model/snapshot.ts'
import type { ObjectKey } from '../model/object-key.ts'
import { cidrContains } from '../net/cidr.ts'
import { ipFamilies, ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { protocolNumbers } from '../net/protocol.ts'
import { destinationTranslated, type ConnectionEntry, type Conntrack } from '../netlink/conntrack.ts'
import { ownerOf, type CompiledServices, type OwnedFrontend } from './compile-services.ts'
import { frontendKey, type Frontend, type FrontendKey } from './frontends.ts'
import { localAddresses } from '../rtnetlink/local-addresses.ts'
import { servingEndpoints } from './select-endpoints.ts'

/*
 * A translation is decided for a connection's first packet and then remembered. A UDP client that keeps its socket has one
 * connection for as long as it sends: without this it would send to an endpoint that is gone, or to nobody, for ever.
 * TCP ends by itself; what should become of it is for `draining.ts`.
 */

/** From this many frontends on, it is quicker to read all UDP connections once than to have the kernel look for each. */
const manyFrontends = 16

/** What a look at the connection table did. */
export interface FlowsForgotten {
  /** Entries deleted, by family. */
  readonly deleted: Readonly<Record<IpFamily, number>>
  /** Services that they belonged to. */
  readonly services: readonly ObjectKey[]
}

/**
 * Deletes UDP connections that lead elsewhere than new ones would, after every change. Entries are kept whose endpoint still
 * serves, even if it terminates or another is nearer; under policy Local it must be on this node for clients outside.
 */
export class StaleFlows {
  readonly #conntrack: Conntrack
  readonly #log: Log
  readonly #localAddresses: () => ReadonlySet<IpAddress>
  #previous: CompiledServices | undefined

  constructor(options: {
    readonly conntrack: Conntrack
    readonly log: Log
    /** This node's own addresses, where node ports answer. @default those of this thread's network namespace */
    readonly localAddresses?: () => ReadonlySet<IpAddress>
  }) {
    this.#conntrack = options.conntrack
    this.#log = options.log
    this.#localAddresses = options.localAddresses ?? localAddresses
  }

  /**
   * Looks at what changed since the last call, at everything at first: call it once `services` are in the kernel, so that no
   * new connection can go the old way. Throws NetlinkError, and then does the same again at the next call.
   */
  async reconcile(services: CompiledServices): Promise<FlowsForgotten> {
    const previous = this.#previous
    const context = new Context(services, { before: previous, localAddresses: this.#localAddresses })
    const stale: ConnectionEntry[] = []
    const add = (entries: readonly ConnectionEntry[]): void => {
      for (const entry of entries) if (context.isStale(entry)) stale.push(entry)
    }
    const targets = previous && previous.node === services.node ? changedFrontends(previous, services) : undefined
    if (!targets || targets.size > manyFrontends) {
      for (const family of ipFamilies)
        add(await this.#conntrack.list({ family, original: { protocol: protocolNumbers.udp } }))
    } else {
      for (const frontend of targets.values()) {
        const destination = frontend.kind === 'node-port' ? {} : { destination: frontend.ip }
        const original = { ...destination, protocol: protocolNumbers.udp, destinationPort: frontend.port }
        add(await this.#conntrack.list({ family: frontend.family, original }))
      }
    }
    const found = [...new Map(stale.map((entry) => [entry.id, entry])).values()]
    await this.#conntrack.delete(found)
    this.#previous = services
    const result: FlowsForgotten = {
      deleted: { 4: countFamily(found, 4), 6: countFamily(found, 6) },
      services: [...context.owners],
    }
    if (found.length > 0) {
      this.#log.info(
        { connections: found.length, services: result.services.slice(0, 10) },
        `forgot ${found.length} UDP connections that led to endpoints which Services no longer have`,
      )
    }
    return result
  }
}

/** UDP frontends of Services that differ, as they were and as they are. */
function changedFrontends(before: CompiledServices, after: CompiledServices): Map<FrontendKey, Frontend> {
  const keys = changedServices(before.snapshot, after.snapshot)
  for (const key of SharedMap.changedKeys(before.services, after.services)) keys.add(key)
  const frontends = new Map<FrontendKey, Frontend>()
  for (const { services } of [before, after]) {
    for (const key of keys) {
      for (const frontend of services.get(key)?.frontends ?? []) {
        if (frontend.protocol === 'udp') frontends.set(frontendKey(frontend), frontend)
      }
    }
  }
  return frontends
}

/** Judges entries by what Services are now, and were before. */
class Context {
  readonly owners = new Set<ObjectKey>()
  readonly #now: CompiledServices
  readonly #before: CompiledServices | undefined
  readonly #localAddresses: () => ReadonlySet<IpAddress>
  readonly #allowed = new Map<string, ReadonlySet<string>>()
  #local: ReadonlySet<IpAddress> | undefined

  constructor(
    now: CompiledServices,
    options: {
      before: CompiledServices | undefined
      localAddresses: () => ReadonlySet<IpAddress>
    },
  ) {
    this.#now = now
    this.#before = options.before
    this.#localAddresses = options.localAddresses
  }

  isStale(entry: ConnectionEntry): boolean {
    const now = this.#find(this.#now, entry)
    const before = this.#before && this.#find(this.#before, entry)
    const stale = this.#judge(entry, now?.frontend, before?.frontend)
    const owner = now?.service ?? before?.service
    if (stale && owner !== undefined) this.owners.add(owner)
    return stale
  }

  #judge(entry: ConnectionEntry, now: Frontend | undefined, before: Frontend | undefined): boolean {
    const translated = (entry.status & destinationTranslated) !== 0
    if (!now) {
      // Nobody's any more. At the start nothing is known of before; in a Service range nobody else translates.
      const { destination } = entry.original
      return translated && (before !== undefined || this.#now.serviceCIDRs.some((r) => cidrContains(r, destination)))
    }
    if (!translated) return now.verdict.kind === 'balance' || now.outside?.kind === 'balance'
    const view = now.outside && !this.#isFromHere(entry.original.source) ? 'outside' : 'verdict'
    return !this.#allowedFor(now, view).has(`${entry.reply.source} ${entry.reply.sourcePort}`)
  }

  #find(services: CompiledServices, entry: ConnectionEntry): OwnedFrontend | undefined {
    const { destination, destinationPort } = entry.original
    if (destinationPort === undefined) return undefined
    const vip = ownerOf(services, `${destination} ${destinationPort}/UDP`)
    if (vip) return vip
    const name = `node-port-${ipFamilyOf(destination)} ${destinationPort}/UDP`
    const nodePort = ownerOf(services, name)
    return nodePort && this.#isLocal(destination) ? nodePort : undefined
  }

  /** A pod of this node, or the node itself: policy Local does not concern them. By interface nobody can tell, and they count as such. */
  #isFromHere(source: IpAddress): boolean {
    const { localPods, localInterface } = this.#now.settings
    return localInterface !== undefined || localPods.some((pods) => cidrContains(pods, source)) || this.#isLocal(source)
  }

  #isLocal(ip: IpAddress): boolean {
    this.#local ??= this.#localAddresses()
    return this.#local.has(ip)
  }

  #allowedFor(frontend: Frontend, view: 'verdict' | 'outside'): ReadonlySet<string> {
    const name = `${frontendKey(frontend)} ${view}`
    let allowed = this.#allowed.get(name)
    if (!allowed) this.#allowed.set(name, (allowed = this.#serving(frontend, view)))
    return allowed
  }

  #serving(frontend: Frontend, view: 'verdict' | 'outside'): ReadonlySet<string> {
    const { snapshot, node } = this.#now
    const owner = ownerOf(this.#now, frontendKey(frontend))?.service ?? ''
    const internalLocal =
      frontend.kind === 'cluster-ip' && snapshot.services.get(owner)?.internalTrafficPolicy === 'Local'
    const onlyHere = view === 'outside' || internalLocal
    const serving = servingEndpoints(snapshot.slices.get(owner) ?? [], frontend, node)
    const verdict = frontend[view]
    const chosen = verdict?.kind === 'balance' ? verdict.slots : []
    return new Set([...serving.filter((e) => e.here || !onlyHere), ...chosen].map((e) => `${e.ip} ${e.port}`))
  }
}

function countFamily(entries: readonly ConnectionEntry[], family: IpFamily): number {
  return entries.filter((entry) => ipFamilyOf(entry.original.source) === family).length
}
