import { SharedMap } from '../base/shared-map.ts'
import type { ObjectKey } from '../model/object-key.ts'
import { changedServices, emptySnapshot, type Snapshot } from '../model/snapshot.ts'
import { formatCidr, type Cidr } from '../net/cidr.ts'
import type { IpAddress, IpFamily } from '../net/ip-address.ts'
import {
  compileService,
  frontendField,
  frontendKey,
  type Frontend,
  type FrontendKey,
  type RecalledSlots,
  type ServiceFrontends,
} from './frontends.ts'
import type { NodeFacts } from './select-endpoints.ts'

/** What the operator says of Services on this node. Compared by identity: keep the object while nothing changes. */
export interface ProxySettings {
  /** Sources that count as local pods: the cluster's CIDRs, or the node's networks. Empty: nobody is known to be one. */
  readonly localPods: readonly Cidr[]
  /** Instead of `localPods`: connections that come in at this interface (detectLocalMode BridgeInterface, InterfaceNamePrefix). */
  readonly localInterface?: LocalInterface | undefined
  /** Replace the source address of everything that goes to a cluster IP. */
  readonly masqueradeAll: boolean
  /** Node ports answer at local addresses in these networks; undefined: at all. Loopback addresses never count here. */
  readonly nodePortAddresses: readonly Cidr[] | undefined
  /** Families in which node ports answer the node's own processes at 127.0.0.1 and ::1 too. @default none */
  readonly loopbackNodePorts?: readonly IpFamily[]
  /** The one bit of the packet mark that asks for masquerade on the way out. @default 0x4000 */
  readonly masqueradeMark?: number
  /** Whether externalIPs are served. @default true */
  readonly externalIPs?: boolean
  /** Ranges of cluster IPs, beside those of ServiceCIDR objects: connections to unused addresses in them are dropped. @default none */
  readonly serviceCIDRs?: readonly Cidr[]
  /** Addresses that the node answers on itself, like its DNS server's: Services that name them do not get them. @default none */
  readonly ownAddresses?: readonly IpAddress[]
}

/** One interface, or all whose names begin with `name`. */
export interface LocalInterface {
  readonly name: string
  readonly prefix: boolean
}

/** Settings that suit a single host without configuration. */
export const defaultProxySettings: ProxySettings = {
  localPods: [],
  masqueradeAll: false,
  nodePortAddresses: undefined,
}

/** What every mode programs: the frontends of all Services, conflicts decided. Immutable; versions share what stayed. */
export interface CompiledServices {
  readonly snapshot: Snapshot
  readonly node: NodeFacts
  readonly settings: ProxySettings
  /** See {@link ProxySettings.serviceCIDRs}; with those of ServiceCIDR objects. The same array while they stay the same. */
  readonly serviceCIDRs: readonly Cidr[]
  /** Per Service, the frontends that it has on this node. Services without any are not in it. */
  readonly services: SharedMap<ServiceFrontends>
  /** Per Service, the frontends that it asks for. Differs from `services` where another Service has them. */
  readonly wanted: SharedMap<ServiceFrontends>
  /** Who asks for a frontend, the owner first. One name is by far the most common. */
  readonly claims: SharedMap<ObjectKey | readonly ObjectKey[]>
  /** Of the Services that have some. */
  readonly problems: SharedMap<readonly string[]>
}

const zoneLabel = 'topology.kubernetes.io/zone'

/**
 * Compiles a snapshot. With the result for an earlier snapshot as `previous`, only Services that changed since, and
 * those that share an address with them, are compiled; all others keep their objects.
 */
export function compileServices(
  snapshot: Snapshot,
  options: {
    readonly nodeName: string
    readonly settings: ProxySettings
    readonly previous?: CompiledServices | undefined
    readonly recalled?: RecalledSlots | undefined
  },
): CompiledServices {
  const { previous } = options
  const node = factsOf(snapshot, options.nodeName, previous?.node)
  const base = previous ?? emptyCompiled
  const { settings } = options
  const sameGround = node === previous?.node && settings === previous.settings
  const changed =
    previous && sameGround
      ? changedServices(previous.snapshot, snapshot)
      : new Set([...snapshot.services.keys(), ...base.wanted.keys()])

  const newlyWanted: [ObjectKey, ServiceFrontends][] = []
  const gone: ObjectKey[] = []
  for (const key of changed) {
    const service = snapshot.services.get(key)
    const before = base.wanted.get(key)
    if (!service) {
      if (before) gone.push(key)
      continue
    }
    const after = compileService(service, snapshot.slices.get(key) ?? [], {
      node,
      externalIPs: settings.externalIPs ?? true,
      previous: before,
      recalled: options.recalled,
    })
    if (after.frontends.length === 0 && after.problems.length === 0 && !after.health) {
      if (before) gone.push(key)
    } else if (after !== before) newlyWanted.push([key, after])
  }
  const wanted = base.wanted.with(newlyWanted, gone)
  const touched = new Set<ObjectKey>([...newlyWanted.map(([key]) => key), ...gone])
  const claims = moveClaims(base, wanted, touched)
  // Other settings may give addresses to Services, or take them away, that did not change themselves.
  if (previous && !sameGround) for (const key of wanted.keys()) touched.add(key)
  const serviceCIDRs = serviceRanges(snapshot, settings, base.serviceCIDRs)
  return {
    snapshot,
    node,
    settings,
    serviceCIDRs,
    wanted,
    claims,
    ...decide(base, { wanted, claims, settings }, touched),
  }
}

/** Updates the claims of the touched Services, and adds to `touched` those that share a contested frontend with them. */
function moveClaims(
  base: CompiledServices,
  wanted: SharedMap<ServiceFrontends>,
  touched: Set<ObjectKey>,
): CompiledServices['claims'] {
  const moved = new Map<FrontendKey, ObjectKey[]>()
  const claimants = (name: FrontendKey): ObjectKey[] => {
    let list = moved.get(name)
    if (!list) moved.set(name, (list = claimList(base.claims.get(name))))
    return list
  }
  for (const key of touched) {
    const before = base.wanted.get(key)
    const after = wanted.get(key)
    const beforeNames = before?.frontends.map(frontendKey) ?? []
    const afterNames = after?.frontends.map(frontendKey) ?? []
    // Same claims: nobody else is concerned.
    if (before && before.creationTimestamp === after?.creationTimestamp && sameNames(beforeNames, afterNames)) continue
    for (const name of beforeNames) claimants(name).splice(claimants(name).indexOf(key), 1)
    for (const name of afterNames) claimants(name).push(key)
  }
  const set: [FrontendKey, ObjectKey | readonly ObjectKey[]][] = []
  const freed: FrontendKey[] = []
  for (const [name, keys] of moved) {
    const [only] = keys
    if (only === undefined) freed.push(name)
    else if (keys.length === 1) set.push([name, only])
    else set.push([name, keys.sort((a, b) => compareAge(wanted.get(a), wanted.get(b)))])
    const before = base.claims.get(name)
    if (keys.length > 1 || typeof before === 'object')
      for (const key of [...keys, ...claimList(before)]) touched.add(key)
  }
  return base.claims.with(set, freed)
}

function sameNames(a: readonly FrontendKey[], b: readonly FrontendKey[]): boolean {
  return a.length === b.length && a.every((name, i) => name === b[i])
}

/** Gives each touched Service the frontends that it owns. */
function decide(
  base: CompiledServices,
  now: Pick<CompiledServices, 'wanted' | 'claims' | 'settings'>,
  touched: ReadonlySet<ObjectKey>,
): Pick<CompiledServices, 'services' | 'problems'> {
  const services: [ObjectKey, ServiceFrontends][] = []
  const none: ObjectKey[] = []
  const problems: [ObjectKey, readonly string[]][] = []
  const fine: ObjectKey[] = []
  // All have what they ask for, as nearly always: then what they have is what they ask for.
  let same = base.services === base.wanted
  // Only where nearly all are looked at it pays to count.
  const contested = 2 * touched.size < now.wanted.size || isContested(now)
  const ground = { ...now, contested }
  for (const key of touched) {
    const asked = now.wanted.get(key)
    const owned = asked && withoutLost(asked, ground)
    if (owned !== asked || owned?.frontends.length === 0) same = false
    if (owned && owned.frontends.length > 0) services.push([key, owned])
    else none.push(key)
    if (owned && owned.problems.length > 0) problems.push([key, owned.problems])
    else fine.push(key)
  }
  return {
    services: same ? now.wanted : base.services.with(services, none),
    problems: problems.length === 0 && base.problems.size === 0 ? base.problems : base.problems.with(problems, fine),
  }
}

/** Whether a Service asks for what another one has: otherwise each frontend is a claim of its own. */
function isContested({ wanted, claims }: Pick<CompiledServices, 'wanted' | 'claims'>): boolean {
  let frontends = 0
  for (const service of wanted.values()) frontends += service.frontends.length
  return frontends > claims.size
}

function withoutLost(
  asked: ServiceFrontends,
  { claims, settings, contested }: Pick<CompiledServices, 'claims' | 'settings'> & { readonly contested: boolean },
): ServiceFrontends {
  const whyLost = (frontend: Frontend): string | undefined => {
    if (frontend.kind !== 'node-port' && settings.ownAddresses?.includes(frontend.ip))
      return 'an address that this node answers on itself (expected another one)'
    if (!contested) return undefined
    const claim = claims.get(frontendKey(frontend))
    const owner = typeof claim === 'string' ? claim : claim?.[0]
    if (owner === undefined || owner === asked.key) return undefined
    return `already used by ${owner} (the older Service keeps it)`
  }
  if (asked.frontends.every((frontend) => whyLost(frontend) === undefined)) return asked
  const frontends: Frontend[] = []
  const problems = new Set(asked.problems)
  for (const frontend of asked.frontends) {
    const why = whyLost(frontend)
    if (why === undefined) frontends.push(frontend)
    else problems.add(`${asked.key}: ${frontendField(frontend)} is ${why}`)
  }
  return { ...asked, frontends, problems: [...problems] }
}

/** A frontend, and the Service that has it on this node. */
export interface OwnedFrontend {
  readonly service: ObjectKey
  readonly frontend: Frontend
}

/** Who has a frontend; undefined: nobody. */
export function ownerOf(services: CompiledServices, name: FrontendKey): OwnedFrontend | undefined {
  const [service] = claimList(services.claims.get(name))
  if (service === undefined) return undefined
  const frontend = services.services.get(service)?.frontends.find((f) => frontendKey(f) === name)
  return frontend && { service, frontend }
}

function claimList(claim: ObjectKey | readonly ObjectKey[] | undefined): ObjectKey[] {
  if (claim === undefined) return []
  return typeof claim === 'string' ? [claim] : [...claim]
}

/** The older first; one without a time counts as the youngest; then by name, so that every node decides alike. */
function compareAge(a: ServiceFrontends | undefined, b: ServiceFrontends | undefined): number {
  const age = bornAt(a) - bornAt(b)
  if (age !== 0 && !Number.isNaN(age)) return age
  return (a?.key ?? '') < (b?.key ?? '') ? -1 : 1
}

function bornAt(service: ServiceFrontends | undefined): number {
  const time = Date.parse(service?.creationTimestamp ?? '')
  return Number.isNaN(time) ? Number.MAX_SAFE_INTEGER : time
}

function factsOf(snapshot: Snapshot, name: string, previous: NodeFacts | undefined): NodeFacts {
  const object = snapshot.nodes.get(name)
  const zone = object?.labels[zoneLabel] || undefined
  const addresses = object?.addresses ?? []
  const same =
    previous && previous.name === name && previous.zone === zone && previous.addresses.join() === addresses.join()
  return same ? previous : { name, zone, addresses }
}

function serviceRanges(snapshot: Snapshot, settings: ProxySettings, previous: readonly Cidr[]): readonly Cidr[] {
  const ranges = [
    ...(settings.serviceCIDRs ?? []),
    ...[...snapshot.serviceCIDRs.values()].flatMap(({ cidrs }) => cidrs),
  ]
  const text = (list: readonly Cidr[]): string => list.map(formatCidr).join()
  return text(ranges) === text(previous) ? previous : ranges
}

const noServices = SharedMap.empty<ServiceFrontends>()

const emptyCompiled: CompiledServices = {
  snapshot: emptySnapshot,
  node: { name: '', zone: undefined, addresses: [] },
  settings: defaultProxySettings,
  serviceCIDRs: [],
  services: noServices,
  wanted: noServices,
  claims: SharedMap.empty(),
  problems: SharedMap.empty(),
}
