/** Upper bounds in seconds: 0.25 ms and its doubles, as CoreDNS has them. */
export const upstreamSecondBounds: readonly number[] = Array.from({ length: 16 }, (_, i) => 0.000_25 * 2 ** i)

/** What one resolver answered with one code. */
export interface UpstreamReplies {
  readonly rcode: number
  /** Not cumulated; the last one is above all bounds. */
  readonly counts: readonly number[]
  readonly sum: number
}

/** What is counted of one resolver. */
export interface UpstreamCount {
  /** Requests sent to it, repeated ones too. */
  readonly requests: number
  /** Requests that it did not answer. */
  readonly failures: number
  readonly replies: readonly UpstreamReplies[]
}

interface Counted {
  requests: number
  failures: number
  readonly replies: Map<number, { readonly rcode: number; readonly counts: number[]; sum: number }>
}

/** Resolvers come and go with resolv.conf; of more than this many the oldest is forgotten. */
const maxUpstreams = 256

/** Counts what resolvers were asked and answered, by their key. */
export class UpstreamCounts {
  readonly #counted = new Map<string, Counted>()

  asked(upstream: string): void {
    this.#of(upstream).requests++
  }

  answered(upstream: string, { rcode, seconds }: { readonly rcode: number; readonly seconds: number }): void {
    const { replies } = this.#of(upstream)
    let known = replies.get(rcode)
    if (!known) replies.set(rcode, (known = { rcode, counts: upstreamSecondBounds.map(() => 0).concat(0), sum: 0 }))
    const bucket = upstreamSecondBounds.findIndex((bound) => seconds <= bound)
    const place = bucket < 0 ? upstreamSecondBounds.length : bucket
    known.counts[place] = (known.counts[place] ?? 0) + 1
    known.sum += seconds
  }

  failed(upstream: string): void {
    this.#of(upstream).failures++
  }

  /** By the key of the resolver. */
  view(): ReadonlyMap<string, UpstreamCount> {
    return new Map(
      [...this.#counted].map(([key, { requests, failures, replies }]) => {
        return [key, { requests, failures, replies: [...replies.values()] }]
      }),
    )
  }

  #of(upstream: string): Counted {
    let known = this.#counted.get(upstream)
    if (known) return known
    const [oldest] = this.#counted.keys()
    if (oldest !== undefined && this.#counted.size >= maxUpstreams) this.#counted.delete(oldest)
    this.#counted.set(upstream, (known = { requests: 0, failures: 0, replies: new Map() }))
    return known
  }
}
