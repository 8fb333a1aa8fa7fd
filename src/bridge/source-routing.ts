import { networkOf, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, parseIp, type IpAddress } from '../net/ip-address.ts'
import type { SourceRule } from '../rtnetlink/rules.ts'
import type { EndpointPlan } from './plan.ts'

/** A route inside a pod. Without `table`, in the main one. */
export interface PodRoute {
  readonly destination: Cidr
  readonly via?: IpAddress
  readonly table?: number
}

/** Before the rule for the main table (32766), and far from what people take for rules of their own. */
const rulePriority = 26_220

/** Our tables ("fl"), one for each link of a pod, by the link's number: they go with the link. */
const firstTable = 0x666c_0000

/** The table of a link. */
export function sourceTable(link: number): number {
  return firstTable + link
}

/** What an endpoint's `sources` mean in its pod, where the link has this number. Pure. */
export function sourceRouting(
  { sources = [] }: Pick<EndpointPlan, 'sources'>,
  link: number,
): { readonly routes: readonly PodRoute[]; readonly rules: readonly SourceRule[] } {
  const table = sourceTable(link)
  const routes = new Map<IpAddress, PodRoute>()
  for (const { gateway } of sources) {
    const everything = parseIp(ipFamilyOf(gateway) === 4 ? '0.0.0.0' : '::')
    const destination = networkOf({ address: everything, prefix: 0 })
    routes.set(gateway, { destination, via: gateway, table })
  }
  const rules = sources.map(({ ip }) => {
    return { source: { address: ip, prefix: ipFamilyOf(ip) === 4 ? 32 : 128 }, table, priority: rulePriority }
  })
  return { routes: [...routes.values()], rules }
}
