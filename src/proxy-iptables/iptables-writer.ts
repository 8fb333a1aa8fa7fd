import type { Restorer, RestoreResult } from '../iptables/client.ts'
import type { TableChanges } from '../iptables/objects.ts'
import { countRules, isEmptyChange } from '../iptables/save-format.ts'
import type { IpAddress, IpFamily } from '../net/ip-address.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type { IptablesParts } from './iptables-parts.ts'
import { clusterIpSet, clusterIpsOf } from './iptables-tables.ts'

/** What writing cost. */
export interface WriteCost {
  bytes: number
  messages: number
  kernelMs: number
  rules: number
  elements: number
}

/** Rules of a family that are being written. Both promises reject when that fails; nobody needs to wait for both. */
export interface Writing {
  /** The tool needs nothing more of us. */
  readonly handedOver: Promise<unknown>
  /** Rules and sets are there. */
  readonly done: Promise<unknown>
}

/** Addresses that a set lacks, and those that it has too much. */
export interface SetChanges {
  readonly add: readonly IpAddress[]
  readonly remove: readonly IpAddress[]
}

/** From this many on, hearing of them costs more than to ask afterwards whether somebody else changed tables meanwhile. */
const manyRules = 500

/** Writes the rules and sets of one sync, and adds up what that costs. */
export class IptablesWriter {
  readonly cost: WriteCost = { bytes: 0, messages: 0, kernelMs: 0, rules: 0, elements: 0 }
  readonly #parts: IptablesParts
  readonly #signal: AbortSignal | undefined

  constructor(parts: IptablesParts, signal: AbortSignal | undefined) {
    this.#parts = parts
    this.#signal = signal
  }

  /**
   * Begins to write rules and set of a family. Who is in the set says only which rule refuses, so their order does not matter, but
   * for what goes. With `startsEarly` the tool starts while `changes` are still being made.
   */
  write(
    restorer: Restorer,
    changes: Promise<readonly TableChanges[]>,
    { services, startsEarly }: { readonly services: CompiledServices; readonly startsEarly: boolean },
  ): Writing {
    const { family } = restorer
    const { promise, resolve } = Promise.withResolvers<void>()
    const restoring = async (): Promise<void> =>
      await this.restore(restorer, startsEarly ? changes : await changes, { onHandedOver: resolve })
    const restored = awaitedLater(restoring())
    const handedOver = awaitedLater(Promise.race([promise, restored]))
    const write = async (): Promise<void> => {
      await handedOver
      const { add, remove } = await setChanges(this.#parts, services, family)
      await this.addToSet(family, add)
      await restored
      await this.removeFromSet(family, remove)
    }
    return { handedOver, done: awaitedLater(write()) }
  }

  /** Has the tool write rules. Nothing to do costs nothing, where that is known at once. */
  async restore(
    restorer: Restorer,
    changes: readonly TableChanges[] | Promise<readonly TableChanges[]>,
    options: { readonly onHandedOver?: () => void } = {},
  ): Promise<void> {
    if (!(changes instanceof Promise) && changes.every(isEmptyChange)) return
    const { nft, restores } = this.#parts
    const signal = this.#signal && { signal: this.#signal }
    let rules: number | undefined
    const count = async (): Promise<number> => (rules ??= countRules(await changes))
    const onHandedOver = (): void => {
      options.onHandedOver?.()
      // While the tool works.
      setImmediate(() => void count())
    }
    const restore = (): Promise<RestoreResult> => restorer.restore(changes, { ...signal, onHandedOver })
    // Of what is still being made there is much. The kernel tells of every rule that the nft tools write.
    const unheard = nft && (changes instanceof Promise || countRules(changes) >= manyRules)
    const result = await restores.during(
      unheard ? () => nft.quietly(restore, ({ transactions }) => transactions) : restore,
    )
    this.cost.bytes += result.bytes
    this.cost.kernelMs += result.ms
    this.cost.messages++
    this.cost.rules += await count()
  }

  async addToSet(family: IpFamily, add: readonly IpAddress[]): Promise<void> {
    const { sets } = this.#parts
    if (!sets) return
    await sets.create(clusterIpSet(family))
    await sets.add(clusterIpSet(family), add)
    this.cost.elements += add.length
  }

  async removeFromSet(family: IpFamily, remove: readonly IpAddress[]): Promise<void> {
    const { sets } = this.#parts
    if (!sets || remove.length === 0) return
    await sets.remove(clusterIpSet(family), remove)
    this.cost.elements += remove.length
  }
}

/** A promise that is awaited after others: its failure is nobody's until then. */
export function awaitedLater<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

/** What the set of cluster IPs in the kernel lacks, and what it has too much. */
export async function setChanges(
  { sets }: IptablesParts,
  services: CompiledServices,
  family: IpFamily,
): Promise<SetChanges> {
  if (!sets) return { add: [], remove: [] }
  const wanted = clusterIpsOf(services.services.values(), family)
  const current = (await sets.read(clusterIpSet(family).name)) ?? new Set()
  return {
    add: [...wanted.keys()].filter((ip) => !current.has(ip)),
    remove: [...current].filter((ip) => !wanted.has(ip)),
  }
}
