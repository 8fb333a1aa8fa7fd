import { type Clock, systemClock, type Timer } from '../base/clock.ts'
import { agedAnswer, AnswerCache, type AnswerCacheOptions, type CachedAnswer, withTtls } from './answer-cache.ts'
import type { ForwardFlags, Upstreams } from './forward.ts'
import type { Name } from '../dns-message/name.ts'
import type { Question } from '../dns-message/query.ts'
import { type Answer, extendedErrors, rcodes } from '../dns-message/record-set.ts'

export interface CachingForwarderOptions extends AnswerCacheOptions {
  readonly forwarder: Upstreams
  /** Something that is another when other resolvers are asked: then all is forgotten. */
  readonly epoch?: () => unknown
  readonly clock?: Clock
  /** Milliseconds until a client gets the old answer while the new one is still awaited (RFC 8767 section 5); default 1800. */
  readonly staleAfter?: number
  /** Whether names that are asked for again are renewed before their end; default true. */
  readonly prefetch?: boolean
}

/** Counts since the start. */
export interface CacheCounters {
  /** All, and of them denials. */
  hits: number
  denialHits: number
  misses: number
  stale: number
  prefetches: number
}

/** RFC 8767 section 4. */
const staleTtl = 30
/** Milliseconds that a failure is remembered: RFC 9520 section 3.2 wants at least a second. */
const failureFor = 1000
/** An answer that is asked for again is renewed in the last tenth of its life, if that lasts long enough to matter. */
const prefetchShare = 0.1
const prefetchMinTtl = 10_000
const maxFailures = 10_000

/**
 * Remembers what the upstream resolvers said. Names of the cluster never come here. Clients get old answers while nobody can be
 * asked, and say so by an extended error.
 */
export class CachingForwarder implements Upstreams {
  readonly #cache: AnswerCache
  readonly #forwarder: Upstreams
  readonly #epoch: () => unknown
  #lastEpoch: unknown
  readonly #clock: Clock
  readonly #staleAfter: number
  readonly #renews: boolean
  readonly #refreshing = new Set<string>()
  /** When a failure is forgotten, and what it was. */
  readonly #failures = new Map<string, { readonly until: number; readonly answer: Answer }>()
  readonly #counters: CacheCounters = { hits: 0, denialHits: 0, misses: 0, stale: 0, prefetches: 0 }

  constructor(options: CachingForwarderOptions) {
    this.#cache = new AnswerCache(options)
    this.#forwarder = options.forwarder
    this.#epoch = options.epoch ?? (() => undefined)
    this.#lastEpoch = this.#epoch()
    this.#clock = options.clock ?? systemClock
    this.#staleAfter = options.staleAfter ?? 1800
    this.#renews = options.prefetch ?? true
  }

  get counters(): Readonly<CacheCounters> & AnswerCache['size'] {
    return { ...this.#counters, ...this.#cache.size }
  }

  isReturning(name: Name): boolean {
    return this.#forwarder.isReturning(name)
  }

  /** As {@link Upstreams.forward}, but at once when the answer is known. */
  forward(question: Question, flags: ForwardFlags): Answer | Promise<Answer> {
    const key = `${question.type} ${question.class} ${flags.dnssecOk} ${flags.checkingDisabled} ${question.name.key}`
    const now = this.#clock.monotonic()
    this.#forgetWhenMoved()
    const known = this.#cache.get(key, now)
    if (known && now < known.freshUntil) {
      this.#counters.hits++
      if (known.answer.answer.length === 0) this.#counters.denialHits++
      known.hits++
      if (this.#isDue(known, now)) this.#prefetch(key, question, flags)
      return agedAnswer(known, now)
    }
    const failure = this.#failures.get(key)
    if (failure && now < failure.until) return known ? this.#stale(known) : { ...failure.answer, from: 'cache' }
    this.#counters.misses++
    const fresh = this.#ask(key, question, flags)
    return known ? this.#freshOrStale(fresh, known) : fresh
  }

  /** Other resolvers may say other things (a VPN came up, say). */
  #forgetWhenMoved(): void {
    const epoch = this.#epoch()
    if (epoch === this.#lastEpoch) return
    this.#lastEpoch = epoch
    this.#cache.clear()
    this.#failures.clear()
  }

  async #ask(key: string, question: Question, flags: ForwardFlags): Promise<Answer> {
    const epoch = this.#lastEpoch
    const answer = this.#cache.capped(await this.#forwarder.forward(question, flags), question.type)
    // Said by those who are no longer asked.
    if (epoch !== this.#lastEpoch) return answer
    const now = this.#clock.monotonic()
    if (isFailure(answer)) {
      // REFUSED of our own is a matter of this moment, not of the name.
      if (answer.rcode === rcodes.SERVFAIL) this.#remember(key, { until: now + failureFor, answer })
    } else {
      this.#failures.delete(key)
      this.#cache.put(key, answer, { now, type: question.type })
    }
    return answer
  }

  /** RFC 8767 section 5: the client is not made to wait for an upstream that may be dead. */
  async #freshOrStale(fresh: Promise<Answer>, known: CachedAnswer): Promise<Answer> {
    let timer: Timer | undefined
    const patience = new Promise<undefined>((resolve) => {
      timer = this.#clock.after(this.#staleAfter, () => resolve(undefined))
    })
    const answer = await Promise.race([fresh, patience])
    timer?.cancel()
    return answer && !isFailure(answer) ? answer : this.#stale(known)
  }

  #stale({ answer }: CachedAnswer): Answer {
    this.#counters.stale++
    const extendedError = {
      code: extendedErrors.STALE_ANSWER,
      text: 'no upstream resolver answers: this is what was last known',
    }
    return { ...withTtls(answer, () => staleTtl), authoritative: false, extendedError, from: 'cache' }
  }

  #isDue(known: CachedAnswer, now: number): boolean {
    const life = known.freshUntil - known.storedAt
    return this.#renews && known.hits > 1 && life >= prefetchMinTtl && known.freshUntil - now < life * prefetchShare
  }

  #prefetch(key: string, question: Question, flags: ForwardFlags): void {
    if (this.#refreshing.has(key)) return
    this.#refreshing.add(key)
    this.#counters.prefetches++
    // forward() never rejects.
    void this.#ask(key, question, flags).finally(() => this.#refreshing.delete(key))
  }

  #remember(key: string, failure: { until: number; answer: Answer }): void {
    this.#failures.delete(key)
    this.#failures.set(key, failure)
    const oldest = this.#failures.keys().next().value
    if (this.#failures.size > maxFailures && oldest !== undefined) this.#failures.delete(oldest)
  }
}

/** Says something about the servers, and nothing about the name. */
function isFailure({ rcode }: Answer): boolean {
  return rcode !== rcodes.NOERROR && rcode !== rcodes.NXDOMAIN
}
