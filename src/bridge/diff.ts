import type { IpAddress } from '../net/ip-address.ts'
import { cidrContains, formatCidr, parseCidr, type Cidr } from '../net/cidr.ts'
import type { MacAddress } from '../net/mac-address.ts'
import type { LinkAddress } from '../rtnetlink/addresses.ts'
import type { Link } from '../rtnetlink/link.ts'
import type { LinkChanges } from '../rtnetlink/link-requests.ts'
import { fairleadProtocol, RT_TABLE_MAIN, type Route } from '../rtnetlink/routes.ts'
import type { RoutingRule, SourceRule } from '../rtnetlink/rules.ts'
import { aliasPrefix, isNetworkBridge, isOurs, linkGroup } from './names.ts'
import type { BridgePlan, EndpointPlan, HostPlan, PortOptions } from './plan.ts'
import { sourceRouting, sourceTable, type PodRoute } from './source-routing.ts'

/** Links, addresses and routes of a namespace (the host's or a pod's), as the kernel tells them. */
export interface NamespaceState {
  readonly links: readonly Link[]
  readonly addresses: readonly LinkAddress[]
  readonly routes: readonly Route[]
  /** Looked at in pods only. */
  readonly rules?: readonly RoutingRule[]
}

/** One step from what the host holds to what it should hold. Links are named, for some do not exist yet. */
export type HostAction =
  | { readonly kind: 'delete-link'; readonly link: string; readonly index: number; readonly why: string }
  | { readonly kind: 'create-bridge'; readonly bridge: BridgePlan }
  | { readonly kind: 'create-endpoint'; readonly endpoint: EndpointPlan }
  | { readonly kind: 'set-link'; readonly link: string; readonly index: number; readonly changes: LinkChanges }
  | {
      readonly kind: 'add-to-bridge'
      readonly link: string
      readonly index: number
      readonly bridge: string
      readonly options: PortOptions
    }
  | { readonly kind: 'add-address'; readonly link: string; readonly index: number; readonly address: Cidr }
  | { readonly kind: 'delete-address'; readonly link: string; readonly index: number; readonly address: Cidr }
  | {
      readonly kind: 'add-subnet-route'
      readonly link: string
      readonly index: number
      readonly route: BridgePlan['routes'][number]
    }

/** One step inside a pod's namespace. */
export type EndpointAction =
  | { readonly kind: 'set-link'; readonly link: string; readonly index: number; readonly changes: LinkChanges }
  | { readonly kind: 'add-address'; readonly link: string; readonly index: number; readonly address: Cidr }
  | { readonly kind: 'add-route'; readonly index: number; readonly route: PodRoute }
  | { readonly kind: 'add-rule' | 'delete-rule'; readonly rule: SourceRule }

/** What a pod's namespace should hold of an endpoint, whichever driver made it. */
export interface InsidePlan extends Pick<EndpointPlan, 'link' | 'addresses' | 'routes' | 'sources'> {
  /** @default veth */
  readonly kind?: 'veth' | 'macvlan' | 'ipvlan'
  /** Undefined: whatever the link has. */
  readonly mac?: MacAddress | undefined
  readonly mtu?: number | undefined
}

/** A link stands where ours should be, and it is somebody else's. */
export class ForeignLinkError extends Error {
  override readonly name = 'ForeignLinkError'
}

/** Addresses that the kernel gives links by itself. */
export const linkLocal = parseCidr('fe80::/10')

/**
 * What to do on the host, in order. `busy` names ports and bridges that are being made or removed at this moment: they are left
 * alone. Links of ours that nobody wants any more go. Pure. Throws {@link ForeignLinkError}.
 */
export function diffHost(
  state: NamespaceState,
  plan: HostPlan,
  options: { readonly busy?: ReadonlySet<string> } = {},
): HostAction[] {
  const busy: ReadonlySet<string> = options.busy ?? new Set()
  const present = new Map(state.links.map((link) => [link.name, link]))
  const wanted = new Set([...plan.bridges.map(({ name }) => name), ...plan.endpoints.map(({ port }) => port)])
  const deletions: HostAction[] = state.links
    .filter((link) => isOurs(link) && !wanted.has(link.name) && !busy.has(link.name))
    .map(({ name, index }) => ({ kind: 'delete-link', link: name, index, why: 'nobody wants it' }))
  const actions: HostAction[] = []
  for (const bridge of plan.bridges) {
    if (!busy.has(bridge.name)) actions.push(...diffBridge(present.get(bridge.name), bridge, state))
  }
  for (const endpoint of plan.endpoints) {
    if (busy.has(endpoint.port)) continue
    const link = present.get(endpoint.port)
    const master = present.get(endpoint.bridge)
    if (link?.kind === 'veth' && link.alias === endpoint.alias) {
      const changes = linkChanges(link, {
        mtu: endpoint.mtu,
        alias: endpoint.alias,
        // A link that is no port of the bridge yet gets this when it becomes one.
        ...(master && link.master === master.index && { options: endpoint.options }),
      })
      if (changes) actions.push({ kind: 'set-link', link: link.name, index: link.index, changes })
      if (!master || link.master !== master.index) {
        const { bridge, options } = endpoint
        actions.push({ kind: 'add-to-bridge', link: link.name, index: link.index, bridge, options })
      }
      continue
    }
    // The name is a hash of ours: a link with it and another alias is one of ours that was cut off in the making.
    if (link) deletions.push({ kind: 'delete-link', link: link.name, index: link.index, why: 'it is half made' })
    actions.push({ kind: 'create-endpoint', endpoint })
  }
  return [...deletions, ...actions]
}

/** What to do in a pod's namespace; `recreate` when its link is not there at all. Pure. */
export function diffEndpoint(state: NamespaceState, plan: InsidePlan): EndpointAction[] | 'recreate' {
  const link = state.links.find(({ name }) => name === plan.link)
  if (!link || link.kind !== (plan.kind ?? 'veth')) return 'recreate'
  const actions: EndpointAction[] = []
  const loopback = state.links.find(({ loopback }) => loopback)
  if (loopback && !loopback.up) {
    actions.push({ kind: 'set-link', link: loopback.name, index: loopback.index, changes: { up: true } })
  }
  const changes = linkChanges(link, { mac: plan.mac, mtu: plan.mtu })
  if (changes) actions.push({ kind: 'set-link', link: link.name, index: link.index, changes })
  const have = addressesOf(state, link)
  for (const address of plan.addresses) {
    if (!have.has(formatCidr(address)))
      actions.push({ kind: 'add-address', link: link.name, index: link.index, address })
  }
  const { routes, rules } = sourceRouting(plan, link.index)
  for (const route of [...plan.routes, ...routes]) {
    if (!hasRoute(state, { ...route, dev: link.index })) actions.push({ kind: 'add-route', index: link.index, route })
  }
  return [...actions, ...diffRules(state, { plan, rules })]
}

/** Rules of ours that are not wanted: of this endpoint's addresses, and those that lead to links that are gone. */
function diffRules(
  state: NamespaceState,
  { plan, rules }: { readonly plan: InsidePlan; readonly rules: readonly SourceRule[] },
): EndpointAction[] {
  const indexes = new Set(state.links.map(({ index }) => sourceTable(index)))
  const own = new Set(plan.addresses.map(({ address }) => address))
  const wanted = new Set(rules.map(ruleKey))
  const present = new Set<string>()
  const actions: EndpointAction[] = []
  for (const { source, table, priority, protocol } of state.rules ?? []) {
    if (protocol !== fairleadProtocol || !source) continue
    const rule = { source, table, priority }
    const isStale = !indexes.has(table) || (own.has(source.address) && !wanted.has(ruleKey(rule)))
    if (isStale) actions.push({ kind: 'delete-rule', rule })
    else present.add(ruleKey(rule))
  }
  for (const rule of rules) if (!present.has(ruleKey(rule))) actions.push({ kind: 'add-rule', rule })
  return actions
}

function ruleKey({ source, table, priority }: SourceRule): string {
  return `${formatCidr(source)} ${table} ${priority}`
}

/** An action as a person would say it, for logs and plans: `create bridge fl0`. */
export function formatAction(action: HostAction | EndpointAction): string {
  switch (action.kind) {
    case 'delete-link':
      return `delete link ${action.link} (${action.why})`
    case 'create-bridge':
      return `create bridge ${action.bridge.name}`
    case 'create-endpoint':
      return `create endpoint ${action.endpoint.alias.slice(aliasPrefix.length)} on bridge ${action.endpoint.bridge}`
    case 'set-link': {
      const changes = Object.entries(action.changes).map(([name, value]) => `${name} ${String(value)}`)
      return `set link ${action.link} ${changes.join(', ')}`
    }
    case 'add-to-bridge':
      return `add link ${action.link} to bridge ${action.bridge}`
    case 'add-address':
      return `add address ${formatCidr(action.address)} to link ${action.link}`
    case 'delete-address':
      return `delete address ${formatCidr(action.address)} from link ${action.link}`
    case 'add-subnet-route':
      return `add route ${formatCidr(action.route.destination)} dev ${action.link}`
    case 'add-route':
      return `add route ${formatCidr(action.route.destination)}${action.route.via === undefined ? '' : ` via ${action.route.via}`}`
    case 'add-rule':
      return `add routing rule from ${action.rule.source.address}`
    case 'delete-rule':
      return `delete routing rule from ${action.rule.source.address}`
    default:
      return action satisfies never
  }
}

function diffBridge(link: Link | undefined, plan: BridgePlan, state: NamespaceState): HostAction[] {
  if (!link) return [{ kind: 'create-bridge', bridge: plan }]
  if (link.kind !== 'bridge' || !isNetworkBridge(link, plan.network)) {
    const what = link.alias === undefined ? 'without alias' : `with alias "${link.alias}"`
    throw new ForeignLinkError(
      `link ${link.name} is not ours (${link.kind ?? 'physical'} ${what}, ours: "${plan.alias}")`,
    )
  }
  const actions: HostAction[] = []
  const changes = linkChanges(link, plan)
  if (changes) actions.push({ kind: 'set-link', link: link.name, index: link.index, changes })
  const have = addressesOf(state, link)
  const wanted = new Set(plan.addresses.map(formatCidr))
  for (const [text, address] of have) {
    if (!wanted.has(text) && !cidrContains(linkLocal, address.address)) {
      actions.push({ kind: 'delete-address', link: link.name, index: link.index, address })
    }
  }
  for (const address of plan.addresses) {
    if (!have.has(formatCidr(address)))
      actions.push({ kind: 'add-address', link: link.name, index: link.index, address })
  }
  for (const route of plan.routes) {
    // Without the address, or with the link down, the route comes when these do.
    const { destination, src } = route
    const due = link.up && have.has(formatCidr({ address: src, prefix: destination.prefix }))
    if (due && !hasRoute(state, { destination, dev: link.index })) {
      actions.push({ kind: 'add-subnet-route', link: link.name, index: link.index, route })
    }
  }
  return actions
}

function hasRoute(
  state: NamespaceState,
  wanted: { destination: Cidr; dev: number; via?: IpAddress; table?: number },
): boolean {
  const { table = RT_TABLE_MAIN } = wanted
  const destination = formatCidr(wanted.destination)
  return state.routes.some(
    (route) =>
      route.dev === wanted.dev &&
      route.table === table &&
      route.type === 'unicast' &&
      (wanted.via === undefined || route.via === wanted.via) &&
      formatCidr(route.destination) === destination,
  )
}

/**
 * What is to be changed of a link; undefined: nothing. Links with an alias are ours on the host, and also belong into our
 * group. Pure.
 */
export function linkChanges(
  link: Link,
  plan: {
    readonly mac?: MacAddress | undefined
    readonly mtu?: number | undefined
    readonly alias?: string
    readonly options?: PortOptions
  },
): LinkChanges | undefined {
  const changes = {
    ...(plan.mac !== undefined && link.mac !== plan.mac && { mac: plan.mac }),
    ...(plan.mtu !== undefined && link.mtu !== plan.mtu && { mtu: plan.mtu }),
    ...(plan.alias !== undefined && link.alias !== plan.alias && { alias: plan.alias }),
    ...(plan.alias !== undefined && link.group !== linkGroup && { group: linkGroup }),
    ...(plan.options && link.port?.hairpin !== plan.options.hairpin && { hairpin: plan.options.hairpin }),
    ...(plan.options && link.port?.isolated !== plan.options.isolated && { isolated: plan.options.isolated }),
    ...(!link.up && { up: true }),
  }
  return Object.keys(changes).length > 0 ? changes : undefined
}

function addressesOf(state: NamespaceState, link: Link): Map<string, Cidr> {
  return new Map(
    state.addresses.filter((entry) => entry.link === link.index).map(({ address }) => [formatCidr(address), address]),
  )
}
