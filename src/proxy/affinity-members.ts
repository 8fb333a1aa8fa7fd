import type { Affinity } from './frontends.ts'
import type { Slots } from './slots.ts'

/**
 * What a client is remembered with, one name for each slot: the endpoint or, where all ports of a Service count, its address. Of several
 * endpoints at one address (pods with hostNetwork), all but the first are also told apart by their place among its ports, in the hope that
 * pods open their ports in the same order.
 */
export function memberNames({ remembers }: Affinity, slots: Slots): readonly string[] {
  if (remembers === 'endpoint') return slots.map(({ ip, port }) => `${ip} ${port}`)
  const ports = portsByAddress(slots)
  return slots.map(({ ip, port }) => {
    const place = ports.get(ip)?.indexOf(port) ?? 0
    return place <= 0 ? ip : `${ip} #${place + 1}`
  })
}

/** The ports at addresses that have several, in order. */
function portsByAddress(slots: Slots): ReadonlyMap<string, readonly number[]> {
  const found = new Map<string, Set<number>>()
  for (const { ip, port } of slots) {
    const known = found.get(ip)
    if (known) known.add(port)
    else found.set(ip, new Set([port]))
  }
  return new Map([...found].filter(([, ports]) => ports.size > 1).map(([ip, ports]) => [ip, [...ports].sort(byNumber)]))
}

function byNumber(a: number, b: number): number {
  return a - b
}
