import type { IpAddress } from '../net/ip-address.ts'
import type { BridgeNetworks } from './bridge-networks.ts'
import type { Owner } from './names.ts'

/** What a pod resolves names with: the cluster DNS server, what the host uses, or servers that the LAN told of. */
export type Resolvers =
  | 'cluster'
  | 'host'
  | { readonly addresses: readonly IpAddress[]; readonly domain: string | undefined }

/** What pods need of networks. {@link BridgeNetworks} alone will do; without the optional parts, all pods have `cluster`. */
export interface EndpointNetworks extends Pick<
  BridgeNetworks,
  'attach' | 'detach' | 'refresh' | 'changePorts' | 'leases'
> {
  /** What a pod in the networks that it is in resolves names with. */
  resolvers?(owner: Owner): Resolvers
  /** Calls the listener whenever the addresses of an endpoint became others by themselves. */
  watchAddresses?(listener: (owner: Owner) => void): void
}
