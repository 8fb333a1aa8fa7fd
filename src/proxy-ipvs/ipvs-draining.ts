import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { IpvsClient } from '../ipvs/client.ts'
import { hasConnections, type DrainingReal } from '../ipvs/diff.ts'
import { realKey, virtualKey, type Command, type RealServerState, type VirtualKey } from '../ipvs/objects.ts'

/** A real server with the weight 0, and until when it may stay; undefined: until its last connection ends. */
interface Leaving extends DrainingReal {
  readonly deadline: number | undefined
}

/** Real servers that nobody wants, and that still have connections. */
export class IpvsDraining {
  readonly #clock: Clock
  readonly #log: Log
  #leaving = new Map<string, Leaving>()

  constructor(options: { readonly clock: Clock; readonly log: Log }) {
    this.#clock = options.clock
    this.#log = options.log
  }

  get reals(): readonly DrainingReal[] {
    return [...this.#leaving.values()]
  }

  /** Takes note of those that a sync left; who was here already keeps its deadline (annotation `fairlead.dev/drain-seconds`). */
  update(draining: readonly DrainingReal[], drainSecondsOf: (key: VirtualKey) => number | undefined): void {
    const before = this.#leaving
    this.#leaving = new Map(
      draining.map((one) => {
        const key = drainingKey(one)
        const known = before.get(key)
        const seconds = known ? undefined : drainSecondsOf(virtualKey(one.virtual.at))
        const deadline =
          known?.deadline ?? (seconds === undefined ? undefined : this.#clock.monotonic() + seconds * 1000)
        return [key, { ...one, deadline }]
      }),
    )
  }

  clear(): void {
    this.#leaving.clear()
  }

  /** Milliseconds until the next look is worth it; undefined: nothing drains. */
  nextLookMs(intervalMs: number): number | undefined {
    if (this.#leaving.size === 0) return undefined
    const now = this.#clock.monotonic()
    const deadlines = [...this.#leaving.values()].map(({ deadline = Infinity }) => Math.max(0, deadline - now))
    return Math.min(intervalMs, ...deadlines)
  }

  /**
   * Counts, and deletes the real servers whose last connection has ended or whose time is over: connections that are left end
   * with their next packet (net.ipv4.vs.expire_nodest_conn). Returns the keys of those that are gone, see {@link drainingKey}.
   */
  async look(ipvs: IpvsClient): Promise<ReadonlySet<string>> {
    const gone = new Set<string>()
    // A virtual server's real servers are listed once, however many of them leave.
    const listed = new Map<VirtualKey, ReadonlyMap<string, RealServerState>>()
    const deletes: Command[] = []
    for (const [key, leaving] of this.#leaving) {
      const { at } = leaving.virtual
      const name = virtualKey(at)
      const reals = listed.get(name) ?? new Map((await ipvs.reals(at)).map((real) => [realKey(real), real]))
      listed.set(name, reals)
      const now = reals.get(realKey(leaving.real))
      const isDue = leaving.deadline !== undefined && this.#clock.monotonic() >= leaving.deadline
      if (now && hasConnections(now) && !isDue) {
        this.#leaving.set(key, { ...leaving, real: now })
        continue
      }
      if (now) deletes.push({ op: 'delete-real', at, real: { ip: now.ip, port: now.port } })
      gone.add(key)
      if (now) this.#leaving.set(key, { ...leaving, real: now })
    }
    await ipvs.run(deletes)
    for (const key of gone) {
      const leaving = this.#leaving.get(key)
      this.#leaving.delete(key)
      if (leaving) this.#note(leaving)
    }
    return gone
  }

  #note({ virtual, real }: Leaving): void {
    const connections = real.counts.active + real.counts.inactive
    const fields = { virtual: virtualKey(virtual.at), real: realKey(real), connections }
    if (connections === 0) this.#log.info(fields, `the last connection of ${fields.real} has ended`)
    else this.#log.info(fields, `ended ${connections} connections that ${fields.real} still had`)
  }
}

/** Names a real server of a virtual server. */
export function drainingKey({ virtual, real }: DrainingReal): string {
  return `${virtualKey(virtual.at)} ${realKey(real)}`
}
