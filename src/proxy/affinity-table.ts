import type { Clock } from '../base/clock.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { memberName } from './affinity-members.ts'
import type { Affinity } from './frontends.ts'
import type { ServiceEndpoint } from './select-endpoints.ts'

interface Remembered {
  readonly ip: IpAddress
  /** See `memberName`. */
  readonly member: string
  /** On the clock's monotonic scale. */
  readonly expires: number
}

/** Clients that are remembered at most; beyond, the longest silent one is forgotten. About 10 MB. */
const defaultLimit = 65_536

/** Session affinity where the daemon chooses endpoints: who was sent where, for as long as Services ask. */
export class AffinityTable {
  readonly #clock: Clock
  readonly #limit: number
  /** By group and client; the longest silent first. */
  readonly #clients = new Map<string, Remembered>()

  constructor(options: { readonly clock: Clock; readonly limit?: number }) {
    this.#clock = options.clock
    this.#limit = options.limit ?? defaultLimit
  }

  /** Where the client was sent last, unless it was silent for too long. */
  recall(affinity: Affinity, client: IpAddress): Pick<Remembered, 'ip' | 'member'> | undefined {
    const known = this.#clients.get(clientKey(affinity, client))
    return known && known.expires > this.#clock.monotonic() ? known : undefined
  }

  /** Notes that the client is sent there now; its time begins anew. */
  remember(affinity: Affinity, client: IpAddress, endpoint: ServiceEndpoint): void {
    const key = clientKey(affinity, client)
    this.#clients.delete(key)
    this.#clients.set(key, {
      ip: endpoint.ip,
      member: memberName(affinity, endpoint),
      expires: this.#clock.monotonic() + affinity.timeoutSeconds * 1000,
    })
    const [longestSilent] = this.#clients.keys()
    if (this.#clients.size > this.#limit && longestSilent !== undefined) this.#clients.delete(longestSilent)
  }
}

function clientKey(affinity: Affinity, client: IpAddress): string {
  return `${affinity.group} ${client}`
}
