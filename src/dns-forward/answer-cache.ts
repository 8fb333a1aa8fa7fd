import { read16 } from '../dns-message/query.ts'
import { type Answer, rcodes, type RecordSet, recordTypes } from '../dns-message/record-set.ts'

export interface AnswerCacheOptions {
  /** Answers with records, and denials, each; default 10,000; 0: nothing is remembered. */
  readonly maxEntries?: number
  /** Denials; default: as many as answers. */
  readonly maxDenials?: number
  /** Octets of each of the two, estimated; default 16 MiB. */
  readonly maxBytes?: number
  /** Seconds that an answer is believed at most; default 3600. */
  readonly maxTtl?: number
  /** Seconds that a denial is believed at most; default 1800 (RFC 2308 section 5 allows hours). */
  readonly maxNegativeTtl?: number
  /** Seconds that an answer is kept after its end, for when nobody can be asked (RFC 8767); default a day. */
  readonly maxStale?: number
}

/** An answer that is remembered. Times are milliseconds of a monotonic clock. */
export interface CachedAnswer {
  readonly answer: Answer
  readonly storedAt: number
  /** Until then it is as good as new. */
  readonly freshUntil: number
  /** Until then it is better than nothing. */
  readonly staleUntil: number
  /** How often it was given out. */
  hits: number
}

interface Stored extends CachedAnswer {
  readonly bytes: number
}

/** Of one kind: the one that was used longest ago goes first. */
interface Pool {
  readonly entries: Map<string, Stored>
  bytes: number
}

/**
 * Remembers what upstream resolvers said, under keys of the caller's choice. Bounded in number and octets. Answers and
 * denials have a room each: a flood of names that do not exist drives out no name that does.
 */
export class AnswerCache {
  readonly #options: Required<AnswerCacheOptions>
  readonly #positive: Pool = { entries: new Map(), bytes: 0 }
  readonly #negative: Pool = { entries: new Map(), bytes: 0 }
  #evictions = 0

  constructor(options: AnswerCacheOptions = {}) {
    this.#options = {
      maxEntries: 10_000,
      maxBytes: 16 * 1024 * 1024,
      maxTtl: 3600,
      maxNegativeTtl: 1800,
      maxStale: 86_400,
      ...options,
      maxDenials: options.maxDenials ?? options.maxEntries ?? 10_000,
    }
  }

  get size(): {
    readonly answers: number
    readonly denials: number
    readonly bytes: number
    /** Those that had to go for others, since the start. */
    readonly evictions: number
  } {
    const { entries: answers, bytes } = this.#positive
    const { entries: denials } = this.#negative
    const evictions = this.#evictions
    return { answers: answers.size, denials: denials.size, bytes: bytes + this.#negative.bytes, evictions }
  }

  /** What is known at `now`: fresh, or stale but kept. */
  get(key: string, now: number): CachedAnswer | undefined {
    for (const pool of [this.#positive, this.#negative]) {
      const entry = pool.entries.get(key)
      if (!entry) continue
      pool.entries.delete(key)
      if (now >= entry.staleUntil) {
        pool.bytes -= entry.bytes
        continue
      }
      pool.entries.set(key, entry)
      return entry
    }
    return undefined
  }

  /** Takes the place of what was known. What may not be believed is not stored, and what was known stays. */
  put(key: string, answer: Answer, { now, type }: { readonly now: number; readonly type: number }): void {
    const { maxTtl, maxNegativeTtl, maxStale, maxEntries, maxDenials, maxBytes } = this.#options
    const positive = answer.rcode === rcodes.NOERROR && reaches(answer, type)
    const ttl = positive ? Math.min(lowestTtl(answer), maxTtl) : Math.min(negativeTtl(answer) ?? 0, maxNegativeTtl)
    if (ttl <= 0) return
    this.#delete(key)
    const bytes = sizeOf(key, answer)
    const pool = positive ? this.#positive : this.#negative
    if (bytes > maxBytes) return
    const freshUntil = now + ttl * 1000
    // A denial that is over says nothing: the name may exist by now.
    const staleUntil = positive ? freshUntil + maxStale * 1000 : freshUntil
    pool.entries.set(key, { answer, storedAt: now, freshUntil, staleUntil, hits: 0, bytes })
    pool.bytes += bytes
    while (pool.entries.size > (positive ? maxEntries : maxDenials) || pool.bytes > maxBytes) {
      const [oldest, entry] = pool.entries.entries().next().value ?? []
      if (oldest === undefined || !entry) break
      pool.entries.delete(oldest)
      pool.bytes -= entry.bytes
      this.#evictions++
    }
  }

  /** The answer with no TTL above what is believed here: clients shall not believe it for longer. As it is when nothing is remembered. */
  capped(answer: Answer, type: number): Answer {
    const { maxTtl, maxNegativeTtl, maxEntries } = this.#options
    if (maxEntries === 0) return answer
    const most = reaches(answer, type) ? maxTtl : maxNegativeTtl
    const sets = [...answer.answer, ...answer.authority, ...answer.additional]
    return sets.some(({ ttl }) => ttl > most) ? withTtls(answer, (ttl) => Math.min(ttl, most)) : answer
  }

  clear(): void {
    for (const pool of [this.#positive, this.#negative]) {
      pool.entries.clear()
      pool.bytes = 0
    }
  }

  #delete(key: string): void {
    for (const pool of [this.#positive, this.#negative]) {
      pool.bytes -= pool.entries.get(key)?.bytes ?? 0
      pool.entries.delete(key)
    }
  }
}

/** The answer with its TTLs counted down to `now`; none above `maxTtl` seconds. Not authoritative: it comes from memory. */
export function agedAnswer({ answer, storedAt }: CachedAnswer, now: number): Answer {
  const age = Math.floor((now - storedAt) / 1000)
  return { ...withTtls(answer, (ttl) => Math.max(0, ttl - age)), authoritative: false, from: 'cache', age }
}

/** The answer with every TTL made by `change`. */
export function withTtls(answer: Answer, change: (ttl: number) => number): Answer {
  const changed = (sets: readonly RecordSet[]) => sets.map((set) => ({ ...set, ttl: change(set.ttl) }))
  const { answer: answers, authority, additional } = answer
  return { ...answer, answer: changed(answers), authority: changed(authority), additional: changed(additional) }
}

/** Whether the answer holds what was asked for, and not only aliases on the way there. */
export function reaches(answer: Answer, type: number): boolean {
  return answer.answer.some((set) => set.type === type || type === recordTypes.ANY)
}

function lowestTtl({ answer }: Answer): number {
  return Math.min(...answer.map((set) => set.ttl))
}

/** RFC 2308 sections 3 and 5: by the SOA; without one a denial must not be remembered. Undefined when it must not. */
function negativeTtl({ rcode, answer, authority }: Answer): number | undefined {
  if (rcode !== rcodes.NOERROR && rcode !== rcodes.NXDOMAIN) return undefined
  const soa = authority.find((set) => set.type === recordTypes.SOA)
  const numbers = soa?.rdata[0]?.at(-1)
  if (!soa || !(numbers instanceof Uint8Array) || numbers.length < 20) return undefined
  const minimum = read16(numbers, 16) * 0x1_0000 + read16(numbers, 18)
  return Math.min(soa.ttl, minimum, ...answer.map((set) => set.ttl))
}

/** An estimate: what the parts have, and what V8 needs around them. */
function sizeOf(key: string, { answer, authority, additional }: Answer): number {
  let bytes = 400 + key.length
  for (const set of [...answer, ...authority, ...additional]) {
    bytes += 300 + set.owner.wire.length
    for (const rdata of set.rdata)
      for (const part of rdata) bytes += 120 + (part instanceof Uint8Array ? part.length : part.wire.length * 2)
  }
  return bytes
}
