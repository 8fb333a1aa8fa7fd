import {
  isAtOrBelow,
  labelsOfKey,
  type Name,
  type NameKey,
  nameOfLabels,
  parseName,
  rootName,
} from '../dns-message/name.ts'
import type { Question } from '../dns-message/query.ts'
import {
  addressSets,
  type Answer,
  emptyAnswer,
  nameSet,
  rcodes,
  type RecordSet,
  recordTypes,
  soaSet,
  srvSet,
} from '../dns-message/record-set.ts'
import { objectKey } from '../model/object-key.ts'
import type { Service, ServicePort } from '../model/service.ts'
import { emptySnapshot, type Snapshot } from '../model/snapshot.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import type { NameStage } from './resolve.ts'

export interface ExternalNamesOptions {
  readonly zones: readonly Name[]
  /** Seconds; default 5. */
  readonly ttl?: number
  /** The label above the zone that the name server stands under; default `dns`. */
  readonly apex?: string
  readonly serverAddresses?: readonly IpAddress[]
  /** Whether unknown names may be known to others (CoreDNS's `fallthrough`); default false: NXDOMAIN. */
  readonly passesOn?: boolean
}

/** As in CoreDNS's k8s_external; nobody transfers the zone. */
const soaTimers = { refresh: 7200, retry: 1800, expire: 86_400 }

/**
 * The addresses that Services have for the world, `<service>.<namespace>.<zone>`: those of their load balancer and their external
 * IPs, as CoreDNS's `k8s_external` gives them; of a load balancer that is known by a host name only, an alias to that. Read from the newest snapshot at each
 * question.
 */
export class ExternalNames implements NameStage {
  readonly #options: ExternalNamesOptions
  readonly #ttl: number
  #snapshot: Snapshot = emptySnapshot
  #serial = 1

  constructor(options: ExternalNamesOptions) {
    this.#options = options
    this.#ttl = options.ttl ?? 5
  }

  touches(zone: NameKey): boolean {
    return this.#options.zones.some(({ key }) => isAtOrBelow(key, zone) || isAtOrBelow(zone, key))
  }

  update(snapshot: Snapshot): void {
    if (this.#snapshot.services === snapshot.services) return
    this.#snapshot = snapshot
    this.#serial = Math.max(this.#serial + 1, Math.floor(Date.now() / 1000))
  }

  answer(question: Question): Answer | undefined {
    const { name, type } = question
    const zone = this.#options.zones.find((zone) => isAtOrBelow(name.key, zone.key))
    if (!zone) return undefined
    const labels = labelsOfKey(name.key)
    const own = labels.slice(0, labels.length - labelsOfKey(zone.key).length)
    const { apex = 'dns', serverAddresses = [], passesOn = false } = this.#options
    const server = nameOfLabels(['ns1', apex, ...labelsOfKey(zone.key)]) ?? rootName
    if (own.length === 0) {
      if (type === recordTypes.SOA) return positive([this.#soa(zone, server)])
      if (type !== recordTypes.NS) return this.#denial(rcodes.NOERROR, zone, server)
      const glue = addressSets(serverAddresses, { owner: server, ttl: this.#ttl })
      return { ...positive([nameSet(recordTypes.NS, [server], { owner: name, ttl: this.#ttl })]), additional: glue }
    }
    const sets =
      own.at(-1) === apex ? this.#apexSets(own, name, serverAddresses) : this.#serviceSets(name, own.toReversed(), zone)
    if (!sets) return passesOn ? undefined : this.#denial(rcodes.NXDOMAIN, zone, server)
    const asked = sets.filter((set) => set.type === type)
    const found = asked.length > 0 ? asked : sets.filter((set) => set.type === recordTypes.CNAME)
    if (found.length === 0) return this.#denial(rcodes.NOERROR, zone, server)
    const additional = type === recordTypes.SRV ? sets.filter((set) => set.owner.key !== name.key) : []
    return { ...positive(found), additional }
  }

  #apexSets(own: readonly string[], owner: Name, addresses: readonly IpAddress[]): RecordSet[] | undefined {
    if (own.length === 1) return []
    return own.length === 2 && own[0] === 'ns1' ? addressSets(addresses, { owner, ttl: this.#ttl }) : undefined
  }

  /** `labels` from the zone on: namespace, Service, protocol, port. Undefined: no such name. */
  #serviceSets(owner: Name, labels: readonly string[], zone: Name): RecordSet[] | undefined {
    const [namespace = '', name, protocol, port, ...rest] = labels
    if (rest.length > 0) return undefined
    if (name === undefined) return this.#hasNamespace(namespace) ? [] : undefined
    const service = this.#snapshot.services.get(objectKey({ namespace, name }))
    const addresses = service ? externalAddresses(service) : []
    const host = service && addresses.length === 0 ? externalHost(service) : undefined
    if (!service || (addresses.length === 0 && !host)) return undefined
    const matches = (candidate: ServicePort) =>
      (protocol === undefined || `_${candidate.protocol}` === protocol) &&
      (port === undefined || `_${candidate.name}` === port)
    const ports = service.ports.filter(matches)
    // `_tcp.web` stands between names, and has no records itself.
    if (protocol !== undefined && (ports.length === 0 || port === undefined)) return ports.length > 0 ? [] : undefined
    const target = host ?? nameOfLabels([name, namespace, ...labelsOfKey(zone.key)]) ?? rootName
    const weight = Math.max(1, Math.floor(100 / Math.max(1, ports.length * Math.max(1, addresses.length))))
    const targets = ports.map((candidate) => ({ priority: 0, weight, port: candidate.port, target }))
    return [
      ...(host ? [nameSet(recordTypes.CNAME, [host], { owner, ttl: this.#ttl })] : []),
      ...addressSets(addresses, { owner, ttl: this.#ttl }),
      ...(targets.length > 0 ? [srvSet(targets, { owner, ttl: this.#ttl })] : []),
      ...(target.key === owner.key ? [] : addressSets(addresses, { owner: target, ttl: this.#ttl })),
    ]
  }

  #hasNamespace(namespace: string): boolean {
    if (this.#snapshot.namespaces.has(namespace)) return true
    // A namespace may not be listed by every role: an object in it says the same.
    for (const service of this.#snapshot.services.values()) if (service.namespace === namespace) return true
    return false
  }

  #denial(rcode: number, zone: Name, server: Name): Answer {
    return { ...positive([]), rcode, authority: [this.#soa(zone, server)] }
  }

  #soa(zone: Name, primary: Name): RecordSet {
    const { apex = 'dns' } = this.#options
    const mailbox = nameOfLabels(['hostmaster', apex, ...labelsOfKey(zone.key)]) ?? rootName
    const serial = this.#serial
    return soaSet({ owner: zone, ttl: this.#ttl, primary, mailbox, serial, ...soaTimers, minimum: this.#ttl })
  }
}

function externalAddresses(service: Service): readonly IpAddress[] {
  return [...new Set([...service.externalIPs, ...service.loadBalancerIngress.map(({ ip }) => ip)])]
}

/** One alias is all that a name can have; what is no host name has no records. */
function externalHost(service: Service): Name | undefined {
  const [hostname = ''] = service.loadBalancerHostnames ?? []
  try {
    return hostname === '' || hostname === '.' ? undefined : parseName(hostname)
  } catch (error) {
    if (error instanceof ParseError) return undefined
    throw error
  }
}

function positive(answer: readonly RecordSet[]): Answer {
  return { ...emptyAnswer(rcodes.NOERROR), authoritative: true, answer, from: 'k8s_external' }
}
