import type { Log } from '../base/log.ts'
import { AttachError } from './attach-request.ts'
import { hostNetwork, isBuiltIn } from './built-in-networks.ts'
import { PublishError } from './choose-ports.ts'
import type { EndpointNetworks } from './endpoint-networks.ts'
import { AddressUnavailableError, PoolExhaustedError } from './ipam.ts'
import { leaseKey, type Lease } from './leases.ts'
import { podOwner, type Owner } from './names.ts'
import type { PodRecord, PodStore } from './pod-record.ts'
import { checkAliases, PodError, type ConnectRequest, type PodPortsRequest } from './pod-spec.ts'
import { formatPublication } from './publication.ts'
import { splitByNetwork } from './withdraw-ports.ts'

/** What {@link PodEndpoints} needs. */
export interface PodEndpointsOptions {
  readonly networks: EndpointNetworks
  readonly store: PodStore
  readonly log: Log
}

/** The endpoints of one pod that is whole, and what can change about them while it runs. */
export class PodEndpoints {
  readonly #record: PodRecord
  readonly #owner: Owner
  readonly #options: PodEndpointsOptions

  constructor(record: PodRecord, options: PodEndpointsOptions) {
    this.#record = record
    this.#owner = podOwner(record)
    this.#options = options
  }

  /** One in one more network. Throws {@link PodError}; then nothing has changed. */
  async connect(request: ConnectRequest): Promise<void> {
    const { networks, log } = this.#options
    const { network, ips, mac, link, publish, aliases } = request
    const owner = this.#owner
    checkAliases(aliases ?? [])
    if (this.#record.network === hostNetwork || isBuiltIn(network)) {
      const reason = this.#record.network === hostNetwork ? 'it is in network host' : `network ${network} is no link`
      const advice = 'make a pod in the network that it is to be in'
      throw new PodError('invalid', `cannot connect ${owner} to network ${network}: ${reason} (${advice})`)
    }
    try {
      const made = await networks.attach({
        owner,
        network,
        netns: this.#first.netns,
        ...(ips && { ips }),
        ...(mac && { mac }),
        ...(link !== undefined && { link }),
        ...(publish && { publish }),
        ...(aliases && { aliases }),
      })
      // It is in several networks now: what it sends from each address leaves by the network of that.
      await networks.refresh(owner).catch(async (error: unknown) => {
        await networks.detach(owner, network)
        throw error
      })
      const where = made.ips.join(', ')
      log.info({ pod: owner, network, ips: made.ips }, `Connected ${owner} to network ${network}: ${where}`)
    } catch (error) {
      const message = `cannot connect ${owner} to network ${network}: ${(error as Error).message}`
      throw new PodError(kindOf(error), message, { cause: error })
    }
  }

  /** As `Pods.changePorts`. Throws {@link PodError}. */
  async changePorts(request: PodPortsRequest): Promise<void> {
    const { networks, log } = this.#options
    const owner = this.#owner
    try {
      for (const change of splitByNetwork(request, { first: this.#record.network, leases: this.#leases })) {
        const { published = [] } = await networks.changePorts({ owner, network: change.network }, change)
        const ports = published.map(formatPublication)
        log.info({ pod: owner, network: change.network, ports }, `Changed the published ports of ${owner}`)
      }
    } catch (error) {
      const message = `cannot change the ports of ${owner}: ${(error as Error).message}`
      throw new PodError(kindOf(error), message, { cause: error })
    }
  }

  /** Takes one away, but not the last; after the first one, the next is the first. Throws {@link PodError}. */
  async disconnect(network: string): Promise<void> {
    const { networks, store, log } = this.#options
    const owner = this.#owner
    if (!networks.leases.has(leaseKey({ network, owner }))) {
      throw new PodError('not-found', `${owner} is not connected to network ${network}`)
    }
    const next = this.#leases.find((other) => other.network !== network)
    if (!next) {
      const advice = 'connect it to another one first, or remove the pod'
      throw new PodError('invalid', `${network} is the only network of ${owner} (${advice})`)
    }
    // Written before: after a crash in between, the pod is whole, and still in the network that it was to leave.
    if (this.#record.network === network) store.put({ ...this.#record, network: next.network })
    await networks.detach(owner, network)
    // Another endpoint may be the way out now.
    await networks.refresh(owner)
    log.info({ pod: owner, network }, `Disconnected ${owner} from network ${network}`)
  }

  get #leases(): readonly Lease[] {
    return [...this.#options.networks.leases.values()].filter(({ owner }) => owner === this.#owner)
  }

  get #first(): Lease {
    const lease = this.#options.networks.leases.get(leaseKey({ network: this.#record.network, owner: this.#owner }))
    if (!lease) throw new PodError('not-found', `there is no ${this.#owner}`)
    return lease
  }
}

/** What is asked for and cannot be had is no failure of ours. */
export function kindOf(error: unknown): 'invalid' | 'failed' {
  const refusals = [AttachError, AddressUnavailableError, PoolExhaustedError, PublishError]
  return refusals.some((kind) => error instanceof kind) ? 'invalid' : 'failed'
}
