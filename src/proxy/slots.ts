import { maglevTable } from './maglev.ts'
import type { ServiceEndpoint } from './select-endpoints.ts'

/**
 * Numbered places for endpoints: a new connection draws a number from 0 to length - 1, by chance, in turn, or by a hash
 * of the client. An endpoint stands in it more than once where weights differ or a client is hashed (Maglev). Every mode
 * is fed with it.
 */
export type Slots = readonly ServiceEndpoint[]

/** Weights that would need more slots than this, and than {@link slotsPerEndpoint} each, are rounded. */
const maxExactSlots = 256
const slotsPerEndpoint = 4

/**
 * The slots of endpoints that take new connections (so none has the weight 0). Of `previous` as much stays in its place
 * as can. Returns `previous` itself when nothing changes.
 */
export function compileSlots(
  endpoints: readonly ServiceEndpoint[],
  options: { readonly consistent: boolean; readonly previous: Slots | undefined },
): Slots {
  if (!options.consistent) return assignSlots(options.previous, repeatByWeight(endpoints))
  // Its slots are the same on every node, so history counts for nothing.
  const table = maglevTable(endpoints)
  const { previous } = options
  const same = previous?.length === table.length && table.every((e, i) => slotKey(e) === slotKey(previous[i]!))
  return same ? previous : table
}

/**
 * Places `endpoints` into slots so that as few as possible change: who stays keeps its place, gaps are filled first by
 * those whose place is beyond the new length, then by new ones in their order. An endpoint may stand more than once.
 * Returns `previous` itself when nothing changes.
 */
export function assignSlots(previous: Slots | undefined, endpoints: readonly ServiceEndpoint[]): Slots {
  if (!previous || previous.length === 0) return endpoints
  const wanted = new Map<string, { readonly endpoint: ServiceEndpoint; count: number }>()
  for (const endpoint of endpoints) {
    const known = wanted.get(slotKey(endpoint))
    if (known) known.count++
    else wanted.set(slotKey(endpoint), { endpoint, count: 1 })
  }
  const slots: (ServiceEndpoint | undefined)[] = Array.from({ length: endpoints.length })
  const homeless: ServiceEndpoint[] = []
  let moved = previous.length !== endpoints.length
  for (const [index, endpoint] of previous.entries()) {
    const known = wanted.get(slotKey(endpoint))
    if (!known || known.count === 0) {
      moved = true
      continue
    }
    known.count--
    if (index < slots.length) slots[index] = endpoint
    else homeless.push(endpoint)
  }
  if (!moved) return previous
  for (const { endpoint, count } of wanted.values()) {
    for (let i = 0; i < count; i++) homeless.push(endpoint)
  }
  let next = 0
  return slots.map((slot) => slot ?? homeless[next++]!)
}

/**
 * Each endpoint as often as its weight says, in the least number of slots, and the places of each spread evenly, so that
 * those who take slots in turn mix them. The same array when all weights are equal.
 */
function repeatByWeight(endpoints: readonly ServiceEndpoint[]): readonly ServiceEndpoint[] {
  const first = endpoints[0]?.weight
  if (endpoints.every((e) => e.weight === first)) return endpoints
  const counts = slotCounts(endpoints.map((e) => e.weight ?? 1))
  return endpoints
    .flatMap((endpoint, i) => {
      const count = counts[i] ?? 1
      return Array.from({ length: count }, (_, nth) => ({ endpoint, at: (nth + 0.5) / count }))
    })
    .sort((a, b) => a.at - b.at)
    .map(({ endpoint }) => endpoint)
}

/**
 * How many slots stand for each weight. In proportion where that takes no more than 256 slots, or 4 per endpoint;
 * otherwise rounded to so many (largest remainders first); but each has one, although that may be more than its share.
 */
export function slotCounts(weights: readonly number[]): readonly number[] {
  const divisor = weights.reduce(greatestCommonDivisor)
  const exact = weights.map((weight) => weight / divisor)
  const total = exact.reduce((a, b) => a + b)
  const most = Math.max(maxExactSlots, slotsPerEndpoint * weights.length)
  if (total <= most) return exact
  const shares = exact.map((weight) => (weight / total) * most)
  const counts = shares.map((share) => Math.max(1, Math.floor(share)))
  const byRemainder = shares
    .map((share, index) => ({ index, left: share - (counts[index] ?? 0) }))
    .sort((a, b) => b.left - a.left || a.index - b.index)
  let free = most - counts.reduce((a, b) => a + b)
  for (const { index } of byRemainder) {
    if (free-- <= 0) break
    counts[index] = (counts[index] ?? 0) + 1
  }
  return counts
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}

function slotKey(endpoint: ServiceEndpoint): string {
  return `${endpoint.ip} ${endpoint.port}`
}
