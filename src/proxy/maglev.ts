import { ipToBytes, type IpAddress } from '../net/ip-address.ts'
import { jhash } from '../net/jhash.ts'
import type { ServiceEndpoint } from './select-endpoints.ts'

/**
 * Table sizes: primes, as Maglev needs them, and few, so that an endpoint more or less seldom changes the size (which
 * moves every client). An endpoint has at least ten slots, up to 6,552 endpoints.
 */
const tableSizes = [251, 1021, 4093, 16_381, 65_521] as const
const leastSlots = 10

/** The seed of the client's hash: any number, the same in every mode and on every node. */
export const maglevSeed = 0xfa1e_1ead

/**
 * The Maglev table of endpoints (Eisenbud et al., NSDI 2016, section 3.4): each takes slots in the order of its own
 * permutation, in turn, more often the greater its weight. Depends on nothing but the endpoints, so that every node makes
 * the same; when one of n goes, its clients move, and few others.
 */
export function maglevTable(endpoints: readonly ServiceEndpoint[]): readonly ServiceEndpoint[] {
  if (endpoints.length === 0) return []
  const size = tableSizes.find((size) => size >= endpoints.length * leastSlots) ?? 65_521
  const table: (ServiceEndpoint | undefined)[] = Array.from({ length: size })
  const heaviest = Math.max(...endpoints.map((e) => e.weight ?? 1))
  const turns = endpoints.map((endpoint) => {
    const name = Buffer.from(`${endpoint.ip} ${endpoint.port}`)
    // Two hashes with seeds of their own: where it begins, and how far it steps. A prime size makes every step a permutation.
    const step = 1 + (jhash(name, 2) % (size - 1))
    return { endpoint, at: jhash(name, 1) % size, step, share: (endpoint.weight ?? 1) / heaviest, credit: 0 }
  })
  for (let filled = 0; filled < size;) {
    for (const turn of turns) {
      turn.credit += turn.share
      if (turn.credit < 1 || filled === size) continue
      turn.credit--
      while (table[turn.at] !== undefined) turn.at = (turn.at + turn.step) % size
      table[turn.at] = turn.endpoint
      filled++
    }
  }
  return table as ServiceEndpoint[]
}

/** The slot of a client among `length`: what `jhash ip saddr mod LENGTH seed 0xfa1e1ead` of nftables says (nft_hash.c). */
export function maglevSlot(client: IpAddress, length: number): number {
  // reciprocal_scale() of include/linux/kernel.h
  return Number((BigInt(jhash(ipToBytes(client), maglevSeed)) * BigInt(length)) >> 32n)
}
