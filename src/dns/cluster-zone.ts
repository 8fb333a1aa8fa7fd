import { type Clock, systemClock } from '../base/clock.ts'
import { SharedMap } from '../base/shared-map.ts'
import { type ObjectKey, objectKey } from '../model/object-key.ts'
import type { Pod } from '../model/pod.ts'
import { changedServices, emptySnapshot, type Snapshot } from '../model/snapshot.ts'
import { type Cidr, cidrContains } from '../net/cidr.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import {
  type CompiledService,
  type CompileOptions,
  compileService,
  type NameEntry,
  reverseAddresses,
} from './compile-service.ts'
import {
  isAtOrBelow,
  labelsOfKey,
  type Name,
  type NameKey,
  nameOfLabels,
  nameText,
  parseName,
  rootName,
} from '../dns-message/name.ts'
import { parseDashedAddress } from './pod-name.ts'
import {
  addressSets,
  type Answer,
  emptyAnswer,
  extendedErrors,
  nameSet,
  rcodes,
  type RecordSet,
  recordTypes,
  soaSet,
  textSet,
} from '../dns-message/record-set.ts'
import { ReverseIndex } from './reverse-index.ts'
import { reverseAddress, reverseZoneOf } from '../dns-message/reverse-name.ts'

/** Which pods have names like `10-7-1-11.shop.pod.<zone>`: none, any address, or the addresses that pods of the namespace have. */
export type PodNames = 'disabled' | 'insecure' | 'verified'

export interface ClusterZoneOptions extends Pick<CompileOptions, 'endpointPodNames' | 'ignoreEmptyService'> {
  /** Namespaces that have names; default: all. */
  readonly namespaces?: ReadonlySet<string>
  /** Default `cluster.local`. Throws {@link ParseError} when it is no domain name. */
  readonly zone?: string
  /** Seconds; default 5. */
  readonly ttl?: number
  /** Default `insecure`, as in kubeadm's CoreDNS. */
  readonly pods?: PodNames
  /** Addresses of `ns.dns.<zone>`. */
  readonly serverAddresses?: readonly IpAddress[]
  /** The cluster's own networks: before the first complete list an address of theirs is not known yet, and not somebody else's. Default: none. */
  readonly ownNetworks?: readonly Cidr[]
  readonly clock?: Clock
}

/** What the zone says about a question. `alias`: go on at `target`. `foreign`: the name is not ours. */
export type ZoneResult =
  | { readonly kind: 'answer'; readonly answer: Answer }
  | { readonly kind: 'alias'; readonly cname: RecordSet; readonly target: Name }
  | { readonly kind: 'foreign' }

/** What an update of a {@link ClusterZone} changed. */
export interface ZoneChange {
  readonly services: ReadonlySet<ObjectKey>
  /** Namespaces that came to exist (true), or ceased to. */
  readonly namespaces: ReadonlyMap<string, boolean>
  /** Whether names that are not known do not exist. */
  readonly synced: boolean
}

/** Services whose records are kept once they were asked for; the oldest goes first. */
const keptServices = 64
/** The TTL in the specification's example (section 2.2). */
const versionTtl = 28_800
/** SOA timers as CoreDNS has them; nobody transfers the zone. */
const soaTimers = { refresh: 7200, retry: 1800, expire: 86_400 }
/** RFC 2308 section 5 asks for at most hours; a cluster changes faster. */
const maxNegativeTtl = 300

/**
 * The cluster's names, answered from the newest snapshot: nothing is cached, so nothing is stale. An update costs what
 * changed.
 */
export class ClusterZone {
  readonly name: Name
  readonly #options: CompileOptions
  readonly #exposed: ReadonlySet<string> | undefined
  readonly #pods: PodNames
  readonly #ownNetworks: readonly Cidr[]
  readonly #clock: Clock
  readonly #fixed: ReadonlyMap<NameKey, NameEntry>
  readonly #compiled = new Map<ObjectKey, CompiledService>()
  readonly #reverse = new ReverseIndex()
  /** How many objects say that a namespace exists. */
  readonly #namespaces = new Map<string, number>()
  /** How many pods of a namespace have an address, by `namespace/address`. */
  readonly #podAddresses = new Map<string, number>()
  /** Namespaces that the running update has touched: whether they existed before. */
  readonly #touched = new Map<string, boolean>()
  #watcher: ((change: ZoneChange) => void) | undefined
  #snapshot: Snapshot = emptySnapshot
  #synced = false
  #serial = 1

  constructor(options: ClusterZoneOptions = {}) {
    const zone = labelsOfKey(parseName(options.zone ?? 'cluster.local').key)
    this.name = nameOfLabels(zone) ?? rootName
    const { ttl = 5, endpointPodNames = false, ignoreEmptyService = false } = options
    this.#options = { zone, ttl, endpointPodNames, ignoreEmptyService }
    this.#exposed = options.namespaces
    this.#pods = options.pods ?? 'insecure'
    this.#ownNetworks = options.ownNetworks ?? []
    this.#clock = options.clock ?? systemClock
    this.#fixed = this.#fixedEntries(options.serverAddresses ?? [])
  }

  /**
   * Takes the newest snapshot. Until one is `synced` (made of complete lists) names that are not in it, and addresses of the cluster's own networks, are
   * SERVFAIL instead of NXDOMAIN, since a denial would be believed.
   */
  update(snapshot: Snapshot, synced: boolean): void {
    const before = this.#snapshot
    this.#snapshot = snapshot
    this.#synced = synced
    const services = changedServices(before, snapshot)
    for (const key of services) this.#updateService(key, before, snapshot)
    const pods = SharedMap.changedKeys(before.pods, snapshot.pods)
    for (const key of pods) this.#updatePod(before.pods.get(key), snapshot.pods.get(key))
    const namespaces = SharedMap.changedKeys(before.namespaces, snapshot.namespaces)
    for (const name of namespaces)
      this.#countNamespace(name, Number(snapshot.namespaces.has(name)) - Number(before.namespaces.has(name)))
    if (services.size + pods.size + namespaces.size > 0)
      this.#serial = Math.max(this.#serial + 1, Math.floor(this.#clock.now().getTime() / 1000))
    const changed = [...this.#touched]
      .map(([name, existed]) => [name, { existed, exists: this.#namespaces.has(name) }] as const)
      .filter(([, { existed, exists }]) => existed !== exists)
    this.#touched.clear()
    this.#watcher?.({ services, namespaces: new Map(changed.map(([name, { exists }]) => [name, exists])), synced })
  }

  /** Tells of each update, once it counts. One can watch; what was before is not told. */
  watch(watcher: (change: ZoneChange) => void): void {
    this.#watcher = watcher
  }

  /** Whether names that are not known do not exist. */
  get synced(): boolean {
    return this.#synced
  }

  /** The names that exist whatever the cluster holds. */
  get fixedNames(): ReadonlyMap<NameKey, NameEntry> {
    return this.#fixed
  }

  /** Whether there is such a Service, with names or without. */
  has(service: ObjectKey): boolean {
    const namespace = this.#snapshot.services.get(service)?.namespace
    return namespace !== undefined && (this.#exposed?.has(namespace) ?? true)
  }

  /** The names of a Service by their keys; undefined when it does not exist, empty when it has none. `own`: but for those of endpoints. */
  namesOf(service: ObjectKey, extent: 'own' | 'all'): ReadonlyMap<NameKey, NameEntry> | undefined {
    const compiled = this.#compiledService(service)
    return extent === 'own' ? compiled?.own : compiled?.entries
  }

  /** Forgets what {@link namesOf} has made of a Service: somebody keeps the answers. */
  forget(service: ObjectKey): void {
    this.#compiled.delete(service)
  }

  /** What is said about a name of the zone that does not exist. */
  get denial(): Answer {
    return this.#negative(rcodes.NXDOMAIN)
  }

  #countNamespace(name: string, change: number): void {
    if (this.#exposed && !this.#exposed.has(name)) return
    if (!this.#touched.has(name)) this.#touched.set(name, this.#namespaces.has(name))
    count(this.#namespaces, name, change)
  }

  /** Answers a question of class IN (or ANY). */
  answer(name: Name, type: number): ZoneResult {
    if (isAtOrBelow(name.key, this.name.key)) return this.#answerInZone(name, type)
    const reverseZone = reverseZoneOf(name.key)
    return reverseZone ? this.#answerReverse(name, type, reverseZone) : { kind: 'foreign' }
  }

  #answerInZone(name: Name, type: number): ZoneResult {
    if (type === recordTypes.AXFR || type === recordTypes.IXFR) return answerOf(emptyAnswer(rcodes.REFUSED))
    if (type === recordTypes.MAILA || type === recordTypes.MAILB) return answerOf(emptyAnswer(rcodes.NOTIMP))
    if (type === recordTypes.SOA && name.key === this.name.key) return answerOf(positive([this.#soa(this.name)]))
    const entry = this.#entry(name)
    if (!entry) return answerOf(this.#synced ? this.#negative(rcodes.NXDOMAIN) : notReady)
    if (type === recordTypes.ANY) return answerOf(positive([this.#minimalAny(name)]))
    const set = entry.sets.get(type)
    // The owner is written as asked: a derived entry or a name in other case has the same key.
    if (set) return answerOf(positive([{ ...set, owner: name }], hasTargets(type) ? entry.additional : []))
    const cname = entry.sets.get(recordTypes.CNAME)
    // CoreDNS answers NODATA to SRV here, and clients of SRV do not follow aliases (RFC 2782: the target must not be one).
    if (entry.alias && cname && type !== recordTypes.SRV)
      return { kind: 'alias', cname: { ...cname, owner: name }, target: entry.alias }
    return answerOf(this.#negative(rcodes.NOERROR))
  }

  /** An address that nobody here has may have a name elsewhere; so only names that we know are ours. */
  #answerReverse(name: Name, type: number, zone: Name): ZoneResult {
    const targets = new Map<NameKey, Name>()
    for (const service of this.#reverse.services(name.key))
      for (const target of this.#compiledService(service)?.pointers.get(name.key) ?? []) targets.set(target.key, target)
    if (targets.size === 0 && !this.#reverse.hasBelow(name.key))
      return !this.#synced && this.#isOwnAddress(name.key) ? answerOf(notReady) : { kind: 'foreign' }
    if (type === recordTypes.ANY) return answerOf(positive([this.#minimalAny(name)]))
    if (type !== recordTypes.PTR || targets.size === 0) return answerOf(this.#negative(rcodes.NOERROR, zone))
    return answerOf(
      positive([nameSet(recordTypes.PTR, [...targets.values()], { owner: name, ttl: this.#options.ttl })]),
    )
  }

  #isOwnAddress(key: NameKey): boolean {
    const address = reverseAddress(key)
    return address !== undefined && this.#ownNetworks.some((network) => cidrContains(network, address))
  }

  /** What is known about a name of the zone; undefined when it does not exist. */
  #entry(name: Name): NameEntry | undefined {
    const fixed = this.#fixed.get(name.key)
    if (fixed) return fixed
    const labels = labelsOfKey(name.key)
    const own = labels.slice(0, labels.length - this.#options.zone.length)
    const [kind, namespace = '', third = '', ...deeper] = own.toReversed()
    if ((kind !== 'svc' && kind !== 'pod') || !this.#namespaces.has(namespace)) return undefined
    if (kind === 'pod') return deeper.length > 0 ? undefined : this.#podEntry(name, namespace, third)
    if (third === '') return emptyEntry
    const compiled = this.#compiledService(objectKey({ namespace, name: third }))
    const entry = compiled?.own.get(name.key) ?? (deeper.length > 0 ? compiled?.entries.get(name.key) : undefined)
    // CoreDNS takes `http.tcp.web` for `_http._tcp.web`.
    const [protocol = '_', port = '_', ...rest] = deeper
    if (entry || rest.length > 0 || protocol.startsWith('_') || port.startsWith('_')) return entry
    const underscored = nameOfLabels([`_${port}`, `_${protocol}`, third, namespace, 'svc', ...this.#options.zone])
    return underscored && compiled?.own.get(underscored.key)
  }

  #podEntry(name: Name, namespace: string, label: string): NameEntry | undefined {
    if (this.#pods === 'disabled') return undefined
    if (label === '') return emptyEntry
    const address = parseDashedAddress(label)
    if (!address) return undefined
    if (this.#pods === 'verified' && !this.#podAddresses.has(`${namespace}/${address}`)) return undefined
    const sets = addressSets([address], { owner: name, ttl: this.#options.ttl })
    return { sets: new Map(sets.map((set) => [set.type, set])), additional: [], alias: undefined }
  }

  #updateService(key: ObjectKey, before: Snapshot, after: Snapshot): void {
    this.#compiled.delete(key)
    const old = before.services.get(key)
    const service = after.services.get(key)
    if (old) {
      this.#countNamespace(old.namespace, -1)
      this.#reverse.remove(key, reverseAddresses(old, before.slices.get(key) ?? []))
    }
    if (service) {
      this.#countNamespace(service.namespace, 1)
      this.#reverse.add(key, reverseAddresses(service, after.slices.get(key) ?? []))
    }
  }

  /** Compiled when first asked for after a change: most Services of a cluster are never asked for on this node, and records take room. */
  #compiledService(key: ObjectKey): CompiledService | undefined {
    const known = this.#compiled.get(key)
    if (known) return known
    const service = this.#snapshot.services.get(key)
    if (!service || (this.#exposed && !this.#exposed.has(service.namespace))) return undefined
    const compiled = compileService(service, this.#snapshot.slices.get(key) ?? [], this.#options)
    const [oldest] = this.#compiled.keys()
    if (oldest !== undefined && this.#compiled.size >= keptServices) this.#compiled.delete(oldest)
    this.#compiled.set(key, compiled)
    return compiled
  }

  #updatePod(old: Pod | undefined, pod: Pod | undefined): void {
    for (const [object, change] of [
      [old, -1],
      [pod, 1],
    ] as const) {
      if (!object) continue
      this.#countNamespace(object.namespace, change)
      // A finished pod has given its address back.
      if (object.phase === 'Succeeded' || object.phase === 'Failed') continue
      for (const ip of object.podIPs) count(this.#podAddresses, `${object.namespace}/${ip}`, change)
    }
  }

  /** RFC 2308: the SOA says how long the denial may be believed. */
  #negative(rcode: number, zone: Name = this.name): Answer {
    return { ...emptyAnswer(rcode), authoritative: true, authority: [this.#soa(zone)], from: 'kubernetes' }
  }

  #soa(zone: Name): RecordSet {
    const labels = labelsOfKey(zone.key)
    return soaSet({
      owner: zone,
      ttl: Math.min(this.#options.ttl, maxNegativeTtl),
      primary: nameOfLabels(['ns', 'dns', ...labels]) ?? rootName,
      mailbox: nameOfLabels(['hostmaster', ...labels]) ?? rootName,
      serial: this.#serial,
      ...soaTimers,
      minimum: this.#options.ttl,
    })
  }

  /** RFC 8482 section 4.2: ANY gets one small record instead of everything. */
  #minimalAny(owner: Name): RecordSet {
    return textSet(recordTypes.HINFO, ['RFC8482', ''], { owner, ttl: this.#options.ttl })
  }

  #fixedEntries(serverAddresses: readonly IpAddress[]): Map<NameKey, NameEntry> {
    const { ttl, zone } = this.#options
    const below = (...labels: string[]): Name => {
      const name = nameOfLabels([...labels, ...zone])
      if (!name) throw new ParseError(`"${nameText(this.name)}" is too long for a cluster zone`)
      return name
    }
    const server = below('ns', 'dns')
    const version = below('dns-version')
    const serverSets = addressSets(serverAddresses, { owner: server, ttl })
    const entry = (sets: readonly RecordSet[], additional: readonly RecordSet[] = []): NameEntry => ({
      sets: new Map(sets.map((set) => [set.type, set])),
      additional,
      alias: undefined,
    })
    return new Map([
      [this.name.key, entry([nameSet(recordTypes.NS, [server], { owner: this.name, ttl })], serverSets)],
      [version.key, entry([textSet(recordTypes.TXT, ['1.1.0'], { owner: version, ttl: versionTtl })])],
      [server.key, entry(serverSets)],
      [below('dns').key, emptyEntry],
      [below('svc').key, emptyEntry],
      [below('pod').key, emptyEntry],
    ])
  }
}

/** What is said about a name that nobody knows yet. */
export const notReady: Answer = {
  ...emptyAnswer(rcodes.SERVFAIL, {
    code: extendedErrors.NOT_READY,
    text: 'the first complete list of the cluster has not arrived yet',
  }),
  from: 'kubernetes',
}

const emptyEntry: NameEntry = { sets: new Map(), additional: [], alias: undefined }

function answerOf(answer: Answer): ZoneResult {
  return { kind: 'answer', answer }
}

/** Types whose records name hosts, so that the client will ask for their addresses next. */
function hasTargets(type: number): boolean {
  return type === recordTypes.SRV || type === recordTypes.NS
}

function positive(answer: readonly RecordSet[], additional: readonly RecordSet[] = []): Answer {
  return { ...emptyAnswer(rcodes.NOERROR), authoritative: true, answer, additional, from: 'kubernetes' }
}

function count(map: Map<string, number>, key: string, change: number): void {
  const value = (map.get(key) ?? 0) + change
  if (value > 0) map.set(key, value)
  else map.delete(key)
}
