import type { ServiceEndpoint } from './select-endpoints.ts'

/**
 * Numbered places for endpoints: a new connection draws a number from 0 to length - 1. Weights and consistent hashing
 * will be slot tables too, in which an endpoint stands more than once.
 */
export type Slots = readonly ServiceEndpoint[]

/**
 * Places `endpoints` into slots so that as few as possible change: who stays keeps its place, gaps are filled first by
 * those whose place is beyond the new length, then by new ones in their order. Returns `previous` itself when nothing
 * changes.
 */
export function assignSlots(previous: Slots | undefined, endpoints: readonly ServiceEndpoint[]): Slots {
  if (!previous || previous.length === 0) return endpoints
  const wanted = new Map(endpoints.map((e) => [slotKey(e), e]))
  const slots: (ServiceEndpoint | undefined)[] = Array.from({ length: endpoints.length })
  const homeless: ServiceEndpoint[] = []
  let moved = previous.length !== endpoints.length
  for (const [index, endpoint] of previous.entries()) {
    if (!wanted.delete(slotKey(endpoint))) moved = true
    else if (index < slots.length) slots[index] = endpoint
    else homeless.push(endpoint)
  }
  if (!moved) return previous
  const queue = [...homeless, ...wanted.values()]
  let next = 0
  return slots.map((slot) => slot ?? queue[next++]!)
}

function slotKey(endpoint: ServiceEndpoint): string {
  return `${endpoint.ip} ${endpoint.port}`
}
