import type { Clock } from '../base/clock.ts'
import type { Upstream } from './upstream.ts'

/** What is known of one resolver from the questions that it was asked. */
interface Experience {
  /** Round-trip time and its deviation in milliseconds, as TCP estimates them (RFC 6298 section 2). */
  rtt: number | undefined
  deviation: number
  /** How often in a row another server's answer came first although this one was asked before. */
  lost: number
  distrustedUntil: number
}

export interface UpstreamHealthOptions {
  readonly clock: Clock
  /** Milliseconds until the next server is asked, at the latest. */
  readonly tryNextAfter: number
}

/** How long a server that did not answer is asked only after the others. */
const distrustFor = 10_000
/** Lost races until that, when a second server is always faster than the first one's silence lasts. */
const maxLost = 3
/** A second question is not sent earlier, however fast a server usually is. */
const minHedge = 100
/** Of a server that has not answered yet. */
const firstHedge = 400
/** Early second questions: one in ten, saved up to ten, so that a slow upstream gets at most a tenth more. */
const hedgeShare = 0.1
const maxHedges = 10
const maxServers = 256

/** Health of the upstream resolvers by use: no probes, so a server that nobody needs is not bothered. */
export class UpstreamHealth {
  readonly #options: UpstreamHealthOptions
  readonly #servers = new Map<string, Experience>()
  #hedges = maxHedges

  constructor(options: UpstreamHealthOptions) {
    this.#options = options
  }

  /** In the given order, but servers that failed lately come last. */
  order(servers: readonly Upstream[]): readonly Upstream[] {
    this.#hedges = Math.min(maxHedges, this.#hedges + hedgeShare)
    // Lists change now and then; what was learnt about a few too many is forgotten.
    if (this.#servers.size > maxServers) this.#servers.clear()
    const now = this.#options.clock.monotonic()
    const distrusted = ({ key }: Upstream) => now < (this.#servers.get(key)?.distrustedUntil ?? 0)
    return [...servers.filter((server) => !distrusted(server)), ...servers.filter(distrusted)]
  }

  /**
   * Milliseconds of silence after which the next server is asked too: what this one hardly ever needs, so that one lost packet
   * costs little; `early` when that is before the configured time.
   */
  patience({ key }: Upstream): { readonly ms: number; readonly early: boolean } {
    const { tryNextAfter } = this.#options
    const { rtt, deviation } = this.#of(key)
    if (this.#hedges < 1) return { ms: tryNextAfter, early: false }
    const ms = rtt === undefined ? firstHedge : Math.max(minHedge, rtt + 4 * deviation)
    return ms < tryNextAfter ? { ms, early: true } : { ms: tryNextAfter, early: false }
  }

  /** An early second question was sent. */
  hedged(): void {
    this.#hedges--
  }

  /** The server answered after `ms` milliseconds. */
  answered({ key }: Upstream, ms: number): void {
    const known = this.#of(key)
    known.lost = 0
    known.distrustedUntil = 0
    const first = known.rtt === undefined
    known.deviation = first ? ms / 2 : 0.75 * known.deviation + 0.25 * Math.abs((known.rtt ?? ms) - ms)
    known.rtt = first ? ms : 0.875 * (known.rtt ?? ms) + 0.125 * ms
  }

  /** Another server's answer came first. */
  lost(server: Upstream): void {
    if (++this.#of(server.key).lost >= maxLost) this.failed(server)
  }

  /** The server refused, or was silent for longer than anybody should be. */
  failed({ key }: Upstream): void {
    const known = this.#of(key)
    known.lost = 0
    known.rtt = undefined
    known.distrustedUntil = this.#options.clock.monotonic() + distrustFor
  }

  #of(key: string): Experience {
    let known = this.#servers.get(key)
    if (!known) this.#servers.set(key, (known = { rtt: undefined, deviation: 0, lost: 0, distrustedUntil: 0 }))
    return known
  }
}
