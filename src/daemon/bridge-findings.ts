import { fullness, maxPorts } from '../bridge/bridge-full.ts'
import { networkAlias } from '../bridge/names.ts'
import type { Link } from '../rtnetlink/link.ts'
import type { Finding } from './doctor.ts'

/** What is said of a link here. */
export type BridgeFacts = Pick<Link, 'index' | 'name' | 'kind' | 'alias' | 'master'>

/** How full our bridges are, whoever made their ports; those that are nearly full are named. Pure. */
export function bridgeFindings(links: readonly BridgeFacts[]): Finding[] {
  const ports = new Map<number, number>()
  for (const { master } of links) if (master !== undefined) ports.set(master, (ports.get(master) ?? 0) + 1)
  const bridges = links.flatMap(({ index, name, kind, alias }) => {
    const network = alias?.startsWith(networkAlias('')) ? alias.slice(networkAlias('').length) : undefined
    return kind === 'bridge' && network !== undefined ? [{ name, network, count: ports.get(index) ?? 0 }] : []
  })
  const full = bridges.flatMap(({ name, network, count }): Finding[] => {
    if (fullness({ name: network, bridge: name }, count) === undefined) return []
    const detail = `${count} of ${maxPorts} ports are in use; pods beyond that are refused`
    const hint = `put new pods of network ${network} on another one: fairlead network create NAME`
    return [{ name: `bridge ${name}`, needed: false, ok: false, detail, hint }]
  })
  const fullest = bridges.toSorted((a, b) => b.count - a.count)[0]
  if (full.length > 0 || !fullest) return full
  const detail = `${bridges.length} of ours; the fullest, ${fullest.name}, has ${fullest.count} of ${maxPorts} ports`
  return [{ name: 'bridges', needed: false, ok: true, detail, hint: undefined }]
}
