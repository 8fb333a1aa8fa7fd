import type { IpAddress } from '../net/ip-address.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import { frontendKey, type Frontend, type FrontendKey } from '../proxy/frontends.ts'
import type { Slots } from '../proxy/slots.ts'
import { placeFrontends, type PlacedFrontend } from './placed-frontends.ts'

/*
 * A virtual server has one list of real servers for all clients. Under externalTrafficPolicy Local, clients outside may have another
 * one than pods: their packets get a mark (map `marks-4`), and IPVS looks for a virtual server of the mark before it looks for one
 * of the address (ip_vs_service_find()).
 */

/** Marks from 0xf1a00000 to 0xf1afffff are ours, as whole values: packets with any other bit are not. */
const firstMark = 0xf1a0_0000
const numberBits = 20
/** One of the bits may be the one that asks for masquerade; it stays free. */
const markCount = 2 ** (numberBits - 1)

/** The `n`th mark, from 0 on, without the bit that asks for masquerade. */
export function markOf(n: number, masqueradeBit: number): number {
  const first = (firstMark & ~masqueradeBit) >>> 0
  if (masqueradeBit >>> numberBits > 0) return first + n
  return first + (n % masqueradeBit) + Math.floor(n / masqueradeBit) * masqueradeBit * 2
}

/** What all of our marks have in common. */
export function commonBits(masqueradeBit: number): { readonly mask: number; readonly equals: number } {
  const mask = ((-1 << numberBits) | masqueradeBit) >>> 0
  return { mask, equals: (firstMark & ~masqueradeBit) >>> 0 }
}

function isOurMark(mark: number, masqueradeBit: number): boolean {
  const { mask, equals } = commonBits(masqueradeBit)
  return (mark & mask) >>> 0 === equals
}

/**
 * The endpoints that clients outside have under externalTrafficPolicy Local, where IPVS can tell these clients apart; undefined: one
 * list serves all. They may be the same as the others', or none: connections live in the virtual server that they were made in, so
 * it stays while endpoints come and go. With session affinity IPVS leaves the port of a marked packet as it is, so ports have to be
 * equal.
 */
export function secondView({ outside, affinity, port }: Frontend): Slots | undefined {
  if (!outside) return undefined
  const slots = outside.kind === 'balance' ? outside.slots : []
  if (affinity && !slots.every((endpoint) => endpoint.port === port)) return undefined
  return slots
}

/** What {@link assignMarks} goes by. */
interface MarkContext {
  readonly nodeAddresses: readonly IpAddress[]
  /** The mark that the kernel has for it. */
  readonly held: (placed: PlacedFrontend) => number | undefined
  readonly masqueradeBit: number
}

/** Gives each frontend with a second view a mark: the one that it has in the kernel, or a free one. Pure. */
export function assignMarks(services: CompiledServices, context: MarkContext): ReadonlyMap<FrontendKey, number> {
  const { masqueradeBit } = context
  const marks = new Map<FrontendKey, number>()
  const taken = new Set<number>()
  const wanted = new Set<FrontendKey>()
  for (const service of services.services.values()) {
    if (!service.frontends.some(secondView)) continue
    for (const placed of placeFrontends(service, context.nodeAddresses)) {
      if (!secondView(placed.frontend)) continue
      const key = frontendKey(placed.frontend)
      wanted.add(key)
      const mark = marks.has(key) ? undefined : context.held(placed)
      if (mark === undefined || taken.has(mark) || !isOurMark(mark, masqueradeBit)) continue
      marks.set(key, mark)
      taken.add(mark)
    }
  }
  let n = 0
  for (const key of wanted) {
    if (marks.has(key)) continue
    while (taken.has(markOf(n, masqueradeBit))) n++
    // Half a million; what is beyond has one list for all clients.
    if (n >= markCount) break
    marks.set(key, markOf(n++, masqueradeBit))
  }
  return marks
}
