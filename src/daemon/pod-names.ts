import type { Owner } from '../bridge/names.ts'
import type { NetworkNames, PodNeighbours } from '../dns/network-names.ts'
import type { IpAddress } from '../net/ip-address.ts'

/** What a lease says about names. */
export interface NamedEndpoint {
  readonly owner: Owner
  readonly network: string
  readonly ips: readonly IpAddress[]
  /** Other names that the pod has in this network. */
  readonly aliases?: readonly string[]
}

/** Where the endpoints are read; `leaseRevision` is another number after each change. */
export interface EndpointList {
  readonly leases: ReadonlyMap<string, NamedEndpoint>
  readonly leaseRevision: number
}

/** Who asks: one pod with all its endpoints. */
interface Asker {
  readonly namespace: string
  readonly networks: Set<string>
}

/**
 * The names that pods have for each other: a pod's name and its aliases, in the networks that it is in. Read from the leases
 * themselves, so that a pod has its names from its first packet on; put in order again at the first question after a change.
 */
export class PodNames implements NetworkNames {
  readonly #endpoints: EndpointList
  #revision: number | undefined
  readonly #askers = new Map<IpAddress, Asker>()
  /** Endpoints by network and name, {@link nameKey}. */
  readonly #named = new Map<string, NamedEndpoint[]>()

  constructor(endpoints: EndpointList) {
    this.#endpoints = endpoints
  }

  seenFrom(client: IpAddress): PodNeighbours | undefined {
    this.#follow()
    const asker = this.#askers.get(client)
    return asker && { addressesOf: (label) => this.#addressesOf(label, asker) }
  }

  /** Of pods in the asker's own Kubernetes namespace if there are any: nobody elsewhere can put himself before them. */
  #addressesOf(label: string, { namespace, networks }: Asker): readonly IpAddress[] {
    const found = [...networks].flatMap((network) => this.#named.get(nameKey(network, label)) ?? [])
    const own = found.filter(({ owner }) => podOf(owner)?.namespace === namespace)
    return [...new Set((own.length > 0 ? own : found).flatMap(({ ips }) => ips))]
  }

  #follow(): void {
    const { leaseRevision } = this.#endpoints
    if (this.#revision === leaseRevision) return
    this.#revision = leaseRevision
    this.#askers.clear()
    this.#named.clear()
    const askers = new Map<Owner, Asker>()
    for (const endpoint of this.#endpoints.leases.values()) {
      const pod = podOf(endpoint.owner)
      if (!pod) continue
      const asker = askers.get(endpoint.owner) ?? { namespace: pod.namespace, networks: new Set<string>() }
      askers.set(endpoint.owner, asker)
      asker.networks.add(endpoint.network)
      for (const ip of endpoint.ips) this.#askers.set(ip, asker)
      for (const name of new Set([pod.name, ...(endpoint.aliases ?? [])])) {
        const key = nameKey(endpoint.network, name.toLowerCase())
        const others = this.#named.get(key)
        if (others) others.push(endpoint)
        else this.#named.set(key, [endpoint])
      }
    }
  }
}

/** Neither part has a slash. */
function nameKey(network: string, name: string): string {
  return `${network}/${name}`
}

/** The pod that an owner is; undefined for owners of other kinds. */
function podOf(owner: Owner): { readonly namespace: string; readonly name: string } | undefined {
  const [, namespace, name] = /^pod ([^/]+)\/(.+)$/.exec(owner) ?? []
  return namespace !== undefined && name !== undefined ? { namespace, name } : undefined
}
