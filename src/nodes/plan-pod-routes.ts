import type { Node } from '../model/node.ts'
import { addressCidr, cidrContains, cidrFamily, cidrsOverlap, formatCidr, networkOf, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'

/** An address that this node has on one of its links, with the length of the link's network. */
export interface LinkNetwork {
  readonly index: number
  readonly link: string
  readonly address: Cidr
}

/** What is looked at to decide the routes. */
export interface RouteFacts {
  /** This node's name. */
  readonly self: string
  readonly nodes: Iterable<Node>
  /** The networks of this node's own pods. */
  readonly own: readonly Cidr[]
  /** What no node's pods may have, and what it is: the Services' networks, subnets of other networks here. */
  readonly reserved: readonly { readonly range: Cidr; readonly what: string }[]
  /** Networks that all pods of the cluster are in; empty: any. */
  readonly clusterCIDRs: readonly Cidr[]
  /** Links that lead to other machines; not our bridges. */
  readonly links: readonly LinkNetwork[]
}

/** A route to the pods of another node. */
export interface PodRoute {
  readonly node: string
  readonly destination: Cidr
  /** The node's address, on the link. */
  readonly via: IpAddress
  readonly dev: number
  readonly link: string
}

/** What of the other nodes can be had, and why not all of it. */
export interface RoutePlan {
  readonly routes: readonly PodRoute[]
  /** Networks of other nodes' pods that can be what they say, routed or not. They do not overlap. */
  readonly pods: readonly Cidr[]
  /** Addresses of other nodes. */
  readonly addresses: readonly IpAddress[]
  /** Sentences for people: `worker-2: ...`. */
  readonly problems: readonly string[]
}

/** The shortest prefix that a node's pods may have: whoever has a node's token must not be able to claim half of the world. */
const shortest = { 4: 8, 6: 32 } as const

/**
 * Decides the routes to other nodes' pods: by the address of the node, where that is on a link of this one (as host-gw does it). A
 * network that two nodes claim is the first one's, by name, so that all nodes decide alike. Pure.
 */
export function planPodRoutes(facts: RouteFacts): RoutePlan {
  const { self, nodes, links } = facts
  const others = [...nodes].filter(({ name }) => name !== self).sort((a, b) => (a.name < b.name ? -1 : 1))
  const addresses = [...new Set(others.flatMap((node) => node.addresses))]
  const taken: { readonly node: string; readonly cidr: Cidr }[] = []
  const routes: PodRoute[] = []
  const problems: string[] = []
  for (const node of others) {
    for (const ip of node.addresses) {
      const conflict = facts.reserved.find(({ range }) => cidrContains(range, ip))
      if (conflict)
        problems.push(`${node.name}: its address ${ip} is in ${conflict.what}: nothing else is reached there`)
    }
    for (const cidr of node.podCIDRs) {
      const why = whyNot(cidr, { ...facts, addresses, taken })
      if (why !== undefined) {
        problems.push(`${node.name}: ${formatCidr(cidr)} cannot be its pods' network: ${why}`)
        continue
      }
      taken.push({ node: node.name, cidr })
      const hop = nextHop(node, { family: cidrFamily(cidr), links })
      if (typeof hop === 'string')
        problems.push(`${node.name}: its pods (${formatCidr(cidr)}) cannot be reached: ${hop}`)
      else routes.push({ node: node.name, destination: cidr, ...hop })
    }
  }
  return { routes, pods: taken.map(({ cidr }) => cidr), addresses, problems }
}

function whyNot(
  cidr: Cidr,
  facts: RouteFacts & {
    readonly addresses: readonly IpAddress[]
    readonly taken: readonly { readonly node: string; readonly cidr: Cidr }[]
  },
): string | undefined {
  const { self, own, reserved, clusterCIDRs, links, addresses, taken } = facts
  const least = shortest[cidrFamily(cidr)]
  if (cidr.prefix < least) return `it is too large (expected /${least} or smaller)`
  const ours = own.find((range) => cidrsOverlap(range, cidr))
  if (ours)
    return `the pods of this node (${self}) are in ${formatCidr(ours)} (give each node a network.subnets of its own)`
  const first = taken.find((other) => cidrsOverlap(other.cidr, cidr))
  if (first)
    return `the pods of ${first.node} are in ${formatCidr(first.cidr)} (give each node a network.subnets of its own)`
  const conflict = reserved.find(({ range }) => cidrsOverlap(range, cidr))
  if (conflict) return `it overlaps ${conflict.what}`
  const link = links.find(({ address }) => cidrsOverlap(networkOf(address), cidr))
  if (link) return `link ${link.link} of this node has ${formatCidr(link.address)}`
  const node = addresses.find((ip) => cidrContains(cidr, ip))
  if (node !== undefined) return `a node has the address ${node} in it`
  const cluster = clusterCIDRs.filter((range) => cidrFamily(range) === cidrFamily(cidr))
  const inside = clusterCIDRs.length === 0 || cluster.some((range) => isWithin(range, cidr))
  return inside ? undefined : `it is not within services.clusterCIDRs (${clusterCIDRs.map(formatCidr).join(', ')})`
}

function isWithin(outer: Cidr, inner: Cidr): boolean {
  return outer.prefix <= inner.prefix && cidrContains(outer, inner.address)
}

function nextHop(
  { addresses }: Node,
  { family, links }: { family: 4 | 6; links: readonly LinkNetwork[] },
): Pick<PodRoute, 'via' | 'dev' | 'link'> | string {
  const candidates = addresses.filter((ip) => ipFamilyOf(ip) === family)
  if (candidates.length === 0) return `the node has no IPv${family} address`
  for (const via of candidates) {
    // An address with the whole length is on no link.
    const near = links.find(
      ({ address }) => address.prefix < addressCidr(address.address).prefix && cidrContains(networkOf(address), via),
    )
    if (near) return { via, dev: near.index, link: near.link }
  }
  return `${candidates.join(' and ')} is on no link of this node (routes by address need nodes on one LAN)`
}
