import type { Clock, Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { changedServices } from '../model/snapshot.ts'
import type { ObjectKey } from '../model/object-key.ts'
import { ipFamilyOf } from '../net/ip-address.ts'
import { protocolNumbers, type Protocol } from '../net/protocol.ts'
import { destinationTranslated, tcpEstablished, type ConnectionEntry, type Conntrack } from '../netlink/conntrack.ts'
import type { CompiledServices } from './compile-services.ts'
import type { Frontend } from './frontends.ts'
import { drainSecondsOf, serviceAnnotations } from './service-annotations.ts'
import { servingEndpoints, type ServiceEndpoint } from './select-endpoints.ts'

/*
 * An endpoint that goes keeps its TCP and SCTP connections: new ones go elsewhere, old ones end by themselves. Nobody else
 * says how many are left. Whoever wants an end to it annotates the Service with `fairlead.dev/drain-seconds`.
 */

/** An endpoint that takes no new connections, and still has some. */
export interface DrainingEndpoint extends ServiceEndpoint {
  readonly service: ObjectKey
  readonly protocol: Protocol
  /** Wall time when it went. */
  readonly since: Date
  /** Established connections at the last count; undefined before the first. */
  readonly connections: number | undefined
  /** Milliseconds until what is left is ended; undefined: never. */
  readonly endsInMs: number | undefined
}

interface Watched extends ServiceEndpoint {
  readonly service: ObjectKey
  readonly protocol: Protocol
  readonly since: Date
  /** On the monotonic clock. */
  readonly deadline: number | undefined
  /** `ADDRESS PORT` that clients asked for; node ports by their port alone, as ` PORT`. */
  readonly asked: Set<string>
  connections: number | undefined
  peak: number
}

/** A count may take one part in so many of the time: each one walks the whole connection table in the kernel. */
const restFactor = 50

/** From this many endpoints of one family and protocol on, all its connections are read at once. */
const manyEndpoints = 16

/**
 * Follows endpoints that left their Services until their last connection has ended, and ends connections whose Service says
 * so. Cost: nothing while nothing drains, else a look at the connection table at each interval.
 */
export class Draining implements Disposable {
  readonly #conntrack: Conntrack
  readonly #clock: Clock
  readonly #log: Log
  readonly #intervalMs: number
  readonly #watched = new Map<string, Watched>()
  #previous: CompiledServices | undefined
  #timer: Timer | undefined
  #disposed = false
  #reset = 0
  #lastCountMs = 0

  constructor(options: {
    readonly conntrack: Conntrack
    readonly clock: Clock
    readonly log: Log
    /** Between two counts. @default 5000 */
    readonly intervalMs?: number
  }) {
    this.#conntrack = options.conntrack
    this.#clock = options.clock
    this.#log = options.log
    this.#intervalMs = options.intervalMs ?? 5000
  }

  /** Those that drain now. */
  get endpoints(): readonly DrainingEndpoint[] {
    return [...this.#watched.values()].map(({ service, protocol, ip, port, since, connections, deadline }) => ({
      service,
      protocol,
      ip,
      port,
      since,
      connections,
      endsInMs: deadline === undefined ? undefined : Math.max(0, deadline - this.#clock.monotonic()),
    }))
  }

  /** Connections ended by us, ever. */
  get connectionsReset(): number {
    return this.#reset
  }

  /** Takes note of who went and who came back. Call it once `services` are in the kernel. */
  update(services: CompiledServices): void {
    const before = this.#previous
    this.#previous = services
    if (!before) return
    for (const key of changedServices(before.snapshot, services.snapshot)) this.#compare(key, before, services)
    if (this.#watched.size > 0) this.#schedule()
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    this.#timer?.cancel()
  }

  #compare(key: ObjectKey, before: CompiledServices, after: CompiledServices): void {
    const had = placesOf(before.services.get(key)?.frontends ?? [])
    const has = placesOf(after.services.get(key)?.frontends ?? [])
    for (const name of has.keys()) this.#watched.delete(`${key} ${name}`)
    for (const [name, { endpoint, protocol, frontends }] of had) {
      // Ready ones that hints or a policy pass over now are well, and may be chosen again.
      if (has.has(name) || isWanted(endpoint, protocol, frontends, key, after)) continue
      const seconds = drainSeconds(key, after) ?? drainSeconds(key, before)
      const now = this.#clock.monotonic()
      this.#watched.set(`${key} ${name}`, {
        ...endpoint,
        service: key,
        protocol,
        since: this.#clock.now(),
        deadline: seconds === undefined ? undefined : now + seconds * 1000,
        asked: new Set(frontends.map((f) => `${f.kind === 'node-port' ? '' : f.ip} ${f.port}`)),
        connections: undefined,
        peak: 0,
      })
    }
  }

  #schedule(): void {
    if (this.#timer || this.#disposed) return
    const now = this.#clock.monotonic()
    const deadlines = [...this.#watched.values()].map((w) => Math.max(0, (w.deadline ?? Infinity) - now))
    const rest = Math.max(this.#intervalMs, this.#lastCountMs * restFactor)
    this.#timer = this.#clock.after(Math.min(rest, ...deadlines), () => {
      this.#timer = undefined
      void this.#countAndGoOn()
    })
  }

  async #countAndGoOn(): Promise<void> {
    const began = this.#clock.monotonic()
    try {
      await this.#count()
    } catch (error) {
      this.#log.error({ err: error }, 'cannot count the connections of endpoints that went; trying again')
    }
    this.#lastCountMs = this.#clock.monotonic() - began
    if (this.#watched.size > 0) this.#schedule()
  }

  async #count(): Promise<void> {
    const connections = await this.#connections()
    for (const [name, watched] of this.#watched) {
      const left = connections.get(name)
      if (left === undefined) continue
      watched.connections = left.length
      watched.peak = Math.max(watched.peak, left.length)
      const due = watched.deadline !== undefined && this.#clock.monotonic() >= watched.deadline
      if (left.length > 0 && !due) continue
      if (left.length > 0) await this.#end(watched, left)
      else if (watched.peak > 0) {
        const { service, ip, port } = watched
        this.#log.info({ service, endpoint: `${ip} ${port}` }, `${service}: the last connection of ${ip} has ended`)
      }
      this.#watched.delete(name)
    }
  }

  /** Whatever comes next from the client meets another endpoint, which does not know the connection and resets it. */
  async #end({ service, ip, port, protocol }: Watched, left: readonly ConnectionEntry[]): Promise<void> {
    await this.#conntrack.delete(left)
    this.#reset += left.length
    this.#log.info(
      { service, endpoint: `${ip} ${port}`, protocol, connections: left.length },
      `${service}: ended ${left.length} connections that ${ip} still had (annotation ${serviceAnnotations.drainSeconds})`,
    )
  }

  /** Established connections of each watched endpoint, by its name here. */
  async #connections(): Promise<ReadonlyMap<string, readonly ConnectionEntry[]>> {
    const groups = Map.groupBy(this.#watched, ([, { ip, protocol }]) => `${ipFamilyOf(ip)} ${protocol}`)
    const result = new Map<string, readonly ConnectionEntry[]>()
    for (const group of groups.values()) {
      const [, first] = group[0]!
      const family = ipFamilyOf(first.ip)
      const protocol = protocolNumbers[first.protocol]
      const all = group.length > manyEndpoints ? await this.#conntrack.list({ family, original: { protocol } }) : []
      const byEndpoint = Map.groupBy(all, ({ reply }) => `${reply.source} ${reply.sourcePort}`)
      for (const [name, { ip, port, asked }] of group) {
        const found =
          group.length > manyEndpoints
            ? (byEndpoint.get(`${ip} ${port}`) ?? [])
            : await this.#conntrack.list({ family, reply: { source: ip, protocol, sourcePort: port } })
        result.set(
          name,
          found.filter(isEstablished).filter((entry) => isOf(entry, asked)),
        )
      }
    }
    return result
  }
}

/** IPVS translates without saying so in the status: there the tuples tell. */
function isEstablished({ status, tcpState, original, reply }: ConnectionEntry): boolean {
  const isTranslated = (status & destinationTranslated) !== 0 || reply.source !== original.destination
  return isTranslated && (tcpState === undefined || tcpState === tcpEstablished)
}

/** The endpoint may belong to other Services too, whose connections are none of our business. */
function isOf({ original }: ConnectionEntry, asked: ReadonlySet<string>): boolean {
  return asked.has(`${original.destination} ${original.destinationPort}`) || asked.has(` ${original.destinationPort}`)
}

interface Place {
  readonly endpoint: ServiceEndpoint
  readonly protocol: Protocol
  readonly frontends: Frontend[]
}

/** Endpoints that frontends lead to, by protocol, address and port. UDP is for `stale-flows.ts`. */
function placesOf(frontends: readonly Frontend[]): Map<string, Place> {
  const places = new Map<string, Place>()
  for (const frontend of frontends) {
    if (frontend.protocol === 'udp') continue
    for (const verdict of [frontend.verdict, frontend.outside]) {
      if (verdict?.kind !== 'balance') continue
      for (const { ip, port } of new Set(verdict.slots)) {
        const name = `${frontend.protocol} ${ip} ${port}`
        const place = places.get(name)
        if (place) place.frontends.push(frontend)
        else places.set(name, { endpoint: { ip, port }, protocol: frontend.protocol, frontends: [frontend] })
      }
    }
  }
  return places
}

function isWanted(
  endpoint: ServiceEndpoint,
  protocol: Protocol,
  frontends: readonly Frontend[],
  key: ObjectKey,
  { snapshot, node }: CompiledServices,
): boolean {
  const slices = snapshot.slices.get(key) ?? []
  const ports = [...new Set(frontends.map((f) => f.portName))]
  return ports
    .flatMap((portName) => servingEndpoints(slices, { portName, protocol, family: ipFamilyOf(endpoint.ip) }, node))
    .some((e) => e.wanted && e.ip === endpoint.ip && e.port === endpoint.port)
}

/** What a Service's annotation says; undefined: connections end by themselves. */
export function drainSeconds(key: ObjectKey, { snapshot }: CompiledServices): number | undefined {
  return drainSecondsOf(snapshot.services.get(key))
}
