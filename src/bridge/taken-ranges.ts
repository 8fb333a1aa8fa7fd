import { addressAt, cidrFamily, cidrSize, networkOf, type Cidr } from '../net/cidr.ts'
import { ipToBigInt } from '../net/ip-address.ts'

/** IPv6 ranges stand behind all IPv4 ones on one line of numbers. */
const ipv6Offset = 1n << 32n

interface Taken {
  readonly first: bigint
  readonly last: bigint
  readonly what: string
}

/**
 * Ranges of addresses that no new subnet may overlap: routes, Service addresses, other networks. Thousands of them are
 * asked as fast as one: sorted by their beginning, with the furthest end so far beside each.
 */
export class TakenRanges {
  readonly #ranges: Taken[]
  readonly #ends: bigint[] = []

  constructor(ranges: Iterable<{ readonly range: Cidr; readonly what: string }>) {
    this.#ranges = Array.from(ranges, ({ range, what }) => ({ ...span(range), what })).sort((a, b) =>
      a.first < b.first ? -1 : a.first > b.first ? 1 : 0,
    )
    this.#countEndsFrom(0)
  }

  /** Takes one more. */
  add(range: Cidr, what: string): void {
    const taken = { ...span(range), what }
    const index = this.#after(taken.first)
    this.#ranges.splice(index, 0, taken)
    this.#countEndsFrom(index)
  }

  /** What overlaps the range; undefined: nothing. */
  find(range: Cidr): string | undefined {
    const { first, last } = span(range)
    const end = this.#after(last)
    if (end === 0 || this.#ends[end - 1]! < first) return undefined
    return this.#ranges.find((taken) => taken.first <= last && taken.last >= first)?.what
  }

  /** The first subnet of a pool, of this size, that nothing overlaps; undefined: there is none. */
  firstFree(pool: Cidr, prefix: number): Cidr | undefined {
    const size = cidrSize({ ...pool, prefix })
    const { first, last } = span(pool)
    for (let start = first; start + size - 1n <= last;) {
      const end = this.#after(start + size - 1n)
      const taken = end === 0 ? -1n : this.#ends[end - 1]!
      if (taken < start) return { address: addressAt(pool, start - first), prefix }
      // Whatever reaches that far begins before the end of this subnet: nothing is free up to there.
      start += ((taken - start) / size + 1n) * size
    }
    return undefined
  }

  /** Index of the first range that begins behind `place`. */
  #after(place: bigint): number {
    let low = 0
    let high = this.#ranges.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#ranges[middle]!.first <= place) low = middle + 1
      else high = middle
    }
    return low
  }

  #countEndsFrom(index: number): void {
    let end = index === 0 ? -1n : this.#ends[index - 1]!
    for (let i = index; i < this.#ranges.length; i++) {
      const { last } = this.#ranges[i]!
      if (last > end) end = last
      this.#ends[i] = end
    }
  }
}

function span(range: Cidr): { first: bigint; last: bigint } {
  const offset = cidrFamily(range) === 4 ? 0n : ipv6Offset
  const first = ipToBigInt(networkOf(range).address) + offset
  return { first, last: first + cidrSize(range) - 1n }
}
