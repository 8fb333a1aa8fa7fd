import type { Clock } from '../base/clock.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { memberName } from './affinity-members.ts'
import { AffinityTable } from './affinity-table.ts'
import type { Affinity, Frontend } from './frontends.ts'
import { maglevSlot } from './maglev.ts'
import type { ServiceEndpoint } from './select-endpoints.ts'
import type { Slots } from './slots.ts'

/** The two views of a frontend: of pods and the node, and of clients outside. */
export type View = 'verdict' | 'outside'

/** What a choice depends on. */
export interface PickOptions {
  readonly view: View
  readonly client: IpAddress
  /** Those that were tried in vain for this connection. */
  readonly failed?: readonly { readonly ip: IpAddress; readonly port: number }[]
}

/**
 * Chooses endpoints where the daemon does it and not the kernel: the client's own while it is remembered and still there,
 * else by the hash of the client, or each slot in turn. `random` is in turn too: the shares are the same.
 */
export class EndpointPicker {
  readonly #affinity: AffinityTable
  /** The next slot of those that are taken in turn. */
  readonly #turns = new WeakMap<Slots, number>()

  constructor(options: { readonly clock: Clock }) {
    this.#affinity = new AffinityTable(options)
  }

  /** Undefined: the frontend has no endpoint that did not fail. */
  pick(frontend: Frontend, { view, client, failed = [] }: PickOptions): ServiceEndpoint | undefined {
    const verdict = (view === 'outside' ? frontend.outside : undefined) ?? frontend.verdict
    if (verdict.kind !== 'balance') return undefined
    const { slots } = verdict
    const { affinity } = frontend
    const usable = (slot: ServiceEndpoint): boolean => !failed.some((f) => f.ip === slot.ip && f.port === slot.port)
    const own = affinity && this.#ownSlot(affinity, { slots, client, usable })
    const chosen = own ?? firstFrom(slots, this.#start(frontend, { slots, client }), usable)
    if (affinity && chosen) this.#affinity.remember(affinity, client, chosen)
    return chosen
  }

  #ownSlot(
    affinity: Affinity,
    { slots, client, usable }: { slots: Slots; client: IpAddress; usable: (slot: ServiceEndpoint) => boolean },
  ): ServiceEndpoint | undefined {
    const known = this.#affinity.recall(affinity, client)
    if (!known) return undefined
    // The address first: names are made for each connection.
    const isOwn = (slot: ServiceEndpoint): boolean =>
      slot.ip === known.ip && memberName(affinity, slot) === known.member
    return slots.find((slot) => isOwn(slot) && usable(slot))
  }

  #start({ algorithm }: Frontend, { slots, client }: { slots: Slots; client: IpAddress }): number {
    if (algorithm === 'maglev') return maglevSlot(client, slots.length)
    const turn = this.#turns.get(slots) ?? Math.floor(Math.random() * slots.length)
    this.#turns.set(slots, (turn + 1) % slots.length)
    return turn
  }
}

/** The first usable slot from `start` on, around the end. */
function firstFrom(
  slots: Slots,
  start: number,
  usable: (slot: ServiceEndpoint) => boolean,
): ServiceEndpoint | undefined {
  for (let i = 0; i < slots.length; i++) {
    const slot = slots[(start + i) % slots.length]
    if (slot && usable(slot)) return slot
  }
  return undefined
}
