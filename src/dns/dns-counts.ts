import { rcodes, recordTypes } from '../dns-message/record-set.ts'

/**
 * Who gave an answer: the value of CoreDNS's label `plugin`, whose names these are. The empty one is the server itself (an
 * error of form, say); `pods` are the short names of pods (network-names.ts), which CoreDNS does not have.
 */
export const answerers = [
  '',
  'kubernetes',
  'cache',
  'forward',
  'hosts',
  'k8s_external',
  'autopath',
  'template',
  'any',
  'acl',
  'chaos',
  'loop',
  'pods',
] as const

export type Answerer = (typeof answerers)[number]

/** One question and its answer, as it is counted. A caller in a hurry may fill the same object again and again. */
export interface Exchange {
  readonly tcp: boolean
  readonly ipv6: boolean
  readonly type: number
  /** Octets of the request. */
  readonly requestSize: number
  readonly dnssecOk: boolean
  /** With the upper bits from EDNS. */
  readonly rcode: number
  /** The place in {@link answerers}. */
  readonly answerer: number
  /** Octets of the response. */
  readonly responseSize: number
  /** From the arrival of the request to the response. */
  readonly seconds: number
}

/** Types that have a count of their own; the rest is one (CoreDNS plugin/metrics/vars/monitor.go). */
const countedTypes: ReadonlyMap<number, string> = new Map([
  [recordTypes.A, 'A'],
  [recordTypes.AAAA, 'AAAA'],
  [recordTypes.NS, 'NS'],
  [recordTypes.CNAME, 'CNAME'],
  [recordTypes.SOA, 'SOA'],
  [recordTypes.PTR, 'PTR'],
  [recordTypes.MX, 'MX'],
  [recordTypes.TXT, 'TXT'],
  [recordTypes.SRV, 'SRV'],
  [43, 'DS'],
  [recordTypes.RRSIG, 'RRSIG'],
  [47, 'NSEC'],
  [48, 'DNSKEY'],
  [50, 'NSEC3'],
  [64, 'SVCB'],
  [recordTypes.HTTPS, 'HTTPS'],
  [recordTypes.IXFR, 'IXFR'],
  [recordTypes.AXFR, 'AXFR'],
  [recordTypes.ANY, 'ANY'],
])
const typeNames = [...countedTypes.values(), 'other']
/** The place of a type below 256 in {@link typeNames}: all counted types are. */
const typePlaces = Uint8Array.from({ length: 256 }, (_, type) => {
  const name = countedTypes.get(type)
  return name === undefined ? typeNames.length - 1 : typeNames.indexOf(name)
})

/** Upper bounds of sizes in octets (CoreDNS plugin/metrics/vars/vars.go). */
export const sizeBounds = [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000] as const
/** Upper bounds of durations in seconds: 0.25 ms and its doubles (CoreDNS plugin/plugin.go, TimeBuckets). */
export const secondBounds: readonly number[] = Array.from({ length: 16 }, (_, i) => 0.000_25 * 2 ** i)

const transports = ['udp', 'tcp'] as const
/** CoreDNS calls IPv4 `1` and IPv6 `2`. */
const families = ['1', '2'] as const
/** RFC 6895: 0 to 23 are given out; the rest is counted as one. */
const rcodePlaces = 25

/** Where each part begins; one slot each, and for a distribution one per bound, one for what is above, and the sum. */
const places = layOut({
  requests: transports.length * families.length * typeNames.length,
  responses: rcodePlaces * answerers.length,
  requestSizes: transports.length * (sizeBounds.length + 2),
  responseSizes: transports.length * (sizeBounds.length + 2),
  durations: secondBounds.length + 2,
  dnssecOk: 1,
  malformed: 1,
  dropped: 1,
  errors: 1,
})

/** How many numbers a {@link DnsCounts} needs. */
export const dnsCountSlots = places.end

/** A distribution as Prometheus has it, but not cumulated: the last of `counts` is above all bounds. */
export interface Distribution {
  readonly bounds: readonly number[]
  readonly counts: readonly number[]
  readonly sum: number
}

/** What was counted, in words. Only what is not zero is listed. */
export interface DnsCountsView {
  readonly requests: readonly { proto: string; family: string; type: string; count: number }[]
  readonly responses: readonly { rcode: string; plugin: Answerer; count: number }[]
  readonly requestSizes: readonly { proto: string; sizes: Distribution }[]
  readonly responseSizes: readonly { proto: string; sizes: Distribution }[]
  readonly durations: Distribution
  readonly dnssecOk: number
  /** Answered with an error of form, or with a cookie only: nothing was asked. They are not among `requests`. */
  readonly malformed: number
  /** Not answered at all. */
  readonly dropped: number
  /** Queries that ended in an error of ours. */
  readonly errors: number
}

/**
 * What a DNS server counts, in numbers that may lie in memory shared with other threads. Each thread writes numbers of its own, so that
 * none has to wait for another; who reads adds them up.
 */
export class DnsCounts {
  readonly slots: Float64Array

  /** `slots`: {@link dnsCountSlots} numbers; default: of its own. */
  constructor(slots: Float64Array = new Float64Array(dnsCountSlots)) {
    this.slots = slots
  }

  /** Counts a question with its answer. */
  add(exchange: Exchange): void {
    const { slots } = this
    const tcp = exchange.tcp ? 1 : 0
    const line = tcp * families.length + (exchange.ipv6 ? 1 : 0)
    increment(slots, places.requests + line * typeNames.length + (typePlaces[exchange.type] ?? typeNames.length - 1))
    if (exchange.dnssecOk) increment(slots, places.dnssecOk)
    this.#observe(places.requestSizes + tcp * (sizeBounds.length + 2), exchange.requestSize)
    this.#answered(tcp, exchange)
    observeSeconds(slots, exchange.seconds)
  }

  /** Counts a message in which nothing was asked, and what it was answered. */
  addMalformed({ tcp, rcode, responseSize }: Pick<Exchange, 'tcp' | 'rcode' | 'responseSize'>): void {
    increment(this.slots, places.malformed)
    this.#answered(tcp ? 1 : 0, { rcode, answerer: 0, responseSize })
  }

  addDropped(): void {
    increment(this.slots, places.dropped)
  }

  addError(): void {
    increment(this.slots, places.errors)
  }

  /** What all of them counted together. */
  static total(list: readonly DnsCounts[]): DnsCountsView {
    const sum = new Float64Array(dnsCountSlots)
    for (const { slots } of list) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0) + (slots[i] ?? 0)
    return viewOf(sum)
  }

  #answered(
    tcp: number,
    { rcode, answerer, responseSize }: Pick<Exchange, 'rcode' | 'answerer' | 'responseSize'>,
  ): void {
    increment(this.slots, places.responses + Math.min(rcode, rcodePlaces - 1) * answerers.length + answerer)
    this.#observe(places.responseSizes + tcp * (sizeBounds.length + 2), responseSize)
  }

  #observe(at: number, size: number): void {
    let bucket = 0
    while (bucket < sizeBounds.length && size > (sizeBounds[bucket] ?? 0)) bucket++
    increment(this.slots, at + bucket)
    const sum = at + sizeBounds.length + 1
    this.slots[sum] = (this.slots[sum] ?? 0) + size
  }
}

/** The place of an answerer for {@link Exchange.answerer}; the server's own of one that has none. */
export function answererPlace(answerer: string | undefined): number {
  return answerer === undefined ? 0 : (answererPlaces.get(answerer) ?? 0)
}

const answererPlaces: ReadonlyMap<string, number> = new Map(answerers.map((answerer, place) => [answerer, place]))

/** The name of a response code as Prometheus and logs have it: `NXDOMAIN`, `RCODE20`. */
export function rcodeName(rcode: number): string {
  return rcodeNames.get(rcode) ?? `RCODE${rcode}`
}

const rcodeNames = new Map<number, string>(Object.entries(rcodes).map(([name, code]) => [code, name]))

function viewOf(slots: Float64Array): DnsCountsView {
  const at = (place: number): number => slots[place] ?? 0
  const distribution = (place: number, bounds: readonly number[]): Distribution => ({
    bounds,
    counts: [...slots.subarray(place, place + bounds.length + 1)],
    sum: at(place + bounds.length + 1),
  })
  const perTransport = (place: number) =>
    transports.map((proto, i) => ({ proto, sizes: distribution(place + i * (sizeBounds.length + 2), sizeBounds) }))
  const requests = transports.flatMap((proto, t) =>
    families.flatMap((family, f) =>
      typeNames.map((type, i) => {
        const count = at(places.requests + (t * families.length + f) * typeNames.length + i)
        return { proto, family, type, count }
      }),
    ),
  )
  const responses = Array.from({ length: rcodePlaces }, (_, rcode) =>
    answerers.map((plugin, i) => ({
      rcode: rcodeName(rcode),
      plugin,
      count: at(places.responses + rcode * answerers.length + i),
    })),
  ).flat()
  return {
    requests: requests.filter(({ count }) => count > 0),
    responses: responses.filter(({ count }) => count > 0),
    requestSizes: perTransport(places.requestSizes),
    responseSizes: perTransport(places.responseSizes),
    durations: distribution(places.durations, secondBounds),
    dnssecOk: at(places.dnssecOk),
    malformed: at(places.malformed),
    dropped: at(places.dropped),
    errors: at(places.errors),
  }
}

function observeSeconds(slots: Float64Array, seconds: number): void {
  // The bounds are 250 µs times powers of two, so the bucket is the number of bits of the rounded-up quotient less one.
  const quarters = Math.ceil(seconds * 4000)
  const bucket = quarters <= 1 ? 0 : Math.min(32 - Math.clz32(quarters - 1), secondBounds.length)
  increment(slots, places.durations + bucket)
  const sum = places.durations + secondBounds.length + 1
  slots[sum] = (slots[sum] ?? 0) + seconds
}

function increment(slots: Float64Array, at: number): void {
  slots[at] = (slots[at] ?? 0) + 1
}

function layOut<Part extends string>(sizes: Readonly<Record<Part, number>>): Readonly<Record<Part | 'end', number>> {
  let end = 0
  const starts: [string, number][] = []
  for (const [part, size] of Object.entries<number>(sizes)) {
    starts.push([part, end])
    end += size
  }
  return Object.fromEntries([...starts, ['end', end]]) as Record<Part | 'end', number>
}
