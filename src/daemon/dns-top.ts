import { Busiest } from '../dns/busiest.ts'
import type { QueryTap } from '../dns/query-feed.ts'
import type { SeenQuery } from '../dns/seen-query.ts'
import { nameText } from '../dns-message/name.ts'
import { rcodes } from '../dns-message/record-set.ts'
import type { DnsTopView } from './dns-control-api.ts'

/** Of what workers answer, one query in so many is looked at. */
const sampleEvery = 16

/** Who asks most, for what, and for what that does not exist. Bounded memory, whatever is asked. */
export class DnsTop implements QueryTap {
  readonly every = sampleEvery
  readonly #names = new Busiest()
  readonly #missing = new Busiest()
  readonly #clients = new Busiest()

  seen({ name, client, rcode }: SeenQuery, weight: number): void {
    const text = nameText(name).toLowerCase()
    this.#names.add(text, weight)
    if (rcode === rcodes.NXDOMAIN) this.#missing.add(text, weight)
    this.#clients.add(client, weight)
  }

  /** `podOf`: who has an address. */
  view(limit: number, podOf: (client: string) => string | undefined): DnsTopView {
    const names = this.#names.top(limit)
    const clients = this.#clients.top(limit)
    const missing = this.#missing.top(limit)
    return {
      seconds: names.seconds,
      queries: names.total,
      notExisting: missing.total,
      names: names.keys.map(({ key, count }) => ({ name: key, count })),
      missing: missing.keys.map(({ key, count }) => ({ name: key, count })),
      clients: clients.keys.map(({ key, count }) => ({ client: key, pod: podOf(key), count })),
    }
  }
}
