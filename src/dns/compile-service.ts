import { isIP } from 'node:net'
import type { Endpoint, EndpointSlice } from '../model/endpoint-slice.ts'
import type { Service } from '../model/service.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'
import { type Name, type NameKey, nameOfLabels, parseName } from '../dns-message/name.ts'
import { addressSets, nameSet, type RecordSet, recordTypes, type SrvTarget, srvSet } from '../dns-message/record-set.ts'
import { reverseKey } from '../dns-message/reverse-name.ts'

/** All that is known about one name. Without any set the name exists only because names below it do. */
export interface NameEntry {
  readonly sets: ReadonlyMap<number, RecordSet>
  /** Addresses of the targets of this name's SRV set. */
  readonly additional: readonly RecordSet[]
  /** Where an ExternalName Service points to. */
  readonly alias: Name | undefined
}

/** What one Service puts into DNS. */
export interface CompiledService {
  /** Its own name and those of its ports: most questions are about these. */
  readonly own: ReadonlyMap<NameKey, NameEntry>
  /** All of its names; made when first asked for, as are the pointers. */
  readonly entries: ReadonlyMap<NameKey, NameEntry>
  /** Names of its addresses, for reverse records. */
  readonly pointers: ReadonlyMap<NameKey, readonly Name[]>
}

export interface CompileOptions {
  /** Labels of the cluster zone. */
  readonly zone: readonly string[]
  readonly ttl: number
  /** Endpoints without a host name are called by their pod's, where it is one label; default: by their address. */
  readonly endpointPodNames?: boolean
  /** Services with cluster IPs and without a ready endpoint have no names (CoreDNS's `ignore empty_service`); default false. */
  readonly ignoreEmptyService?: boolean
}

/** Something that has an address, the name that SRV records give it, and ports. */
interface Backend {
  readonly target: Name
  readonly address: IpAddress
  readonly ports: readonly NamedPort[]
}

interface NamedPort {
  readonly name: string
  readonly protocol: Protocol
  readonly port: Port
}

const nothing: CompiledService = { own: new Map(), entries: new Map(), pointers: new Map() }

/**
 * The records of one Service: Kubernetes DNS specification 1.1.0, sections 2.3 to 2.5, and what CoreDNS adds to it
 * (names of the endpoints of a Service with cluster IPs, SRV under the bare name, addresses under `_port._proto`).
 */
export function compileService(
  service: Service,
  slices: readonly EndpointSlice[],
  options: CompileOptions,
): CompiledService {
  const base = [service.name, service.namespace, 'svc', ...options.zone]
  const name = nameOfLabels(base)
  if (!name) return nothing
  if (service.type === 'ExternalName') return compileExternalName(service, name, options.ttl)

  const endpoints = once(() => endpointBackends(service, slices, { base, podNames: options.endpointPodNames ?? false }))
  const frontends = service.clusterIPs.map((address): Backend => ({ target: name, address, ports: service.ports }))
  const backends = service.headless ? endpoints() : frontends
  // A headless Service without a ready endpoint does not exist in DNS (section 2.4.1).
  if (backends.length === 0 || (options.ignoreEmptyService && endpoints().length === 0)) return nothing

  const own = compileOwnNames(backends, { name, base, ttl: options.ttl })
  const entries = once(() => {
    const all = new Map(own)
    for (const [target, group] of Map.groupBy(endpoints(), (endpoint) => endpoint.target.key)) {
      const owner = group[0]?.target
      if (owner) all.set(target, compileBackends(group, { owner, ttl: options.ttl, matches: () => true }))
    }
    return all
  })
  const pointers = once(() => compilePointers([...frontends, ...endpoints()]))
  return {
    own,
    get entries() {
      return entries()
    },
    get pointers() {
      return pointers()
    },
  }
}

/** The name of a Service, and those of its ports. */
function compileOwnNames(
  backends: readonly Backend[],
  { name, base, ttl }: { readonly name: Name; readonly base: readonly string[]; readonly ttl: number },
): Map<NameKey, NameEntry> {
  const own = new Map<NameKey, NameEntry>()
  own.set(name.key, compileBackends(backends, { owner: name, ttl, matches: () => true }))
  for (const { name: port, protocol } of backends.flatMap((backend) => backend.ports)) {
    if (port === '') continue
    const parent = nameOfLabels([`_${protocol}`, ...base])
    const owner = nameOfLabels([`_${port}`, `_${protocol}`, ...base])
    if (!owner || !parent || own.has(owner.key)) continue
    if (!own.has(parent.key)) own.set(parent.key, { sets: new Map(), additional: [], alias: undefined })
    const matches = (candidate: NamedPort) => candidate.name === port && candidate.protocol === protocol
    const having = backends.filter((backend) => backend.ports.some(matches))
    own.set(owner.key, compileBackends(having, { owner, ttl, matches }))
  }
  return own
}

function compilePointers(backends: readonly Backend[]): Map<NameKey, Name[]> {
  const pointers = new Map<NameKey, Name[]>()
  for (const [key, group] of Map.groupBy(backends, ({ address }) => reverseKey(address)))
    pointers.set(key, [...new Map(group.map(({ target }) => [target.key, target])).values()])
  return pointers
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined
  return () => (made ??= { value: make() }).value
}

/** The addresses that {@link compileService} makes reverse names of, without the cost of compiling. */
export function reverseAddresses(
  service: Service,
  slices: readonly EndpointSlice[],
): { clusterIPs: readonly IpAddress[]; endpoints: readonly IpAddress[] } {
  if (service.type === 'ExternalName') return { clusterIPs: [], endpoints: [] }
  const ready = slices.flatMap((slice) => slice.endpoints.filter((endpoint) => isPublished(endpoint, service)))
  return { clusterIPs: service.clusterIPs, endpoints: distinct(ready.map((endpoint) => endpoint.address)) }
}

/** Specification 1.1.0, "ready": or the Service takes endpoints that are not. */
function isPublished(endpoint: Endpoint, service: Service): boolean {
  return endpoint.ready || service.publishNotReadyAddresses
}

/** Section 2.5. An external name that is an address, or no name at all, has no records. */
function compileExternalName(service: Service, owner: Name, ttl: number): CompiledService {
  const alias = service.externalName === undefined ? undefined : readExternalName(service.externalName)
  if (!alias) return nothing
  const sets = new Map([[recordTypes.CNAME, nameSet(recordTypes.CNAME, [alias], { owner, ttl })]])
  const entries = new Map([[owner.key, { sets, additional: [], alias }]])
  return { own: entries, entries, pointers: new Map() }
}

function readExternalName(text: string): Name | undefined {
  if (text === '' || text === '.' || isIP(text.replace(/\.$/, '')) !== 0) return undefined
  try {
    return parseName(text)
  } catch {
    // The source has already told the user that the object is wrong; for DNS the Service has no target.
    return undefined
  }
}

function endpointBackends(
  service: Service,
  slices: readonly EndpointSlice[],
  { base, podNames }: { readonly base: readonly string[]; readonly podNames: boolean },
): Backend[] {
  const backends: Backend[] = []
  for (const slice of slices) {
    for (const endpoint of slice.endpoints) {
      if (!isPublished(endpoint, service)) continue
      const { address } = endpoint
      const label = endpoint.hostname ?? (podNames ? endpoint.targetPod : undefined)
      const target = nameOfLabels([label ?? '', ...base]) ?? nameOfLabels([dashedAddress(address), ...base])
      if (target) backends.push({ target, address, ports: slice.ports })
    }
  }
  return backends
}

/** The address as one label, as CoreDNS writes it: `10-7-1-31`, `fd00-10--52`; a label cannot end with a dash, hence the 0. */
export function dashedAddress(address: IpAddress): string {
  const label = address.replaceAll(/[.:]/g, '-')
  return label.endsWith('-') ? `${label}0` : label
}

interface EntryOptions {
  readonly owner: Name
  readonly ttl: number
  readonly matches: (port: NamedPort) => boolean
}

/** Addresses and SRV records of the backends under one name. */
function compileBackends(backends: readonly Backend[], { owner, ttl, matches }: EntryOptions): NameEntry {
  const sets = new Map<number, RecordSet>()
  for (const set of addressSets(distinct(backends.map((backend) => backend.address)), { owner, ttl }))
    sets.set(set.type, set)
  const pairs = backends.flatMap((backend) => backend.ports.filter(matches).map(({ port }) => ({ backend, port })))
  if (pairs.length === 0) return { sets, additional: [], alias: undefined }
  // The share of each address, not of each target: so CoreDNS counts, and a dual-stack Service gets 50.
  const weight = Math.max(1, Math.floor(100 / pairs.length))
  const targets = new Map<string, SrvTarget>()
  const addresses = new Map<Name, IpAddress[]>()
  const byKey = new Map<NameKey, Name>()
  for (const { backend, port } of pairs) {
    const target = byKey.get(backend.target.key) ?? backend.target
    byKey.set(target.key, target)
    targets.set(`${port} ${target.key}`, { priority: 0, weight, port, target })
    const known = addresses.get(target)
    if (known) known.push(backend.address)
    else addresses.set(target, [backend.address])
  }
  sets.set(recordTypes.SRV, srvSet([...targets.values()], { owner, ttl }))
  const additional = [...addresses].flatMap(([target, ips]) => addressSets(distinct(ips), { owner: target, ttl }))
  return { sets, additional, alias: undefined }
}

function distinct<T>(values: readonly T[]): T[] {
  return [...new Set(values)]
}
