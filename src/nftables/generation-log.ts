import { decodeAttributes } from '../netlink/attributes.ts'
import { NLMSG_DONE, NLMSG_ERROR, type NetlinkMessage } from '../netlink/message.ts'
import type { ForeignChange } from './client.ts'
import { familyNumbers, generationAttributes, nftMessages, tableAttributes } from './nf-tables-messages.ts'
import type { NftFamily } from './objects.ts'

/** A commit of somebody: which tables it touched. */
export interface Generation {
  readonly id: number
  readonly changes: readonly ForeignChange[]
}

/** How many generations are remembered. Whoever last looked longer ago has to read again. */
const kept = 4096

const families = new Map<number, NftFamily>(
  Object.entries(familyNumbers).map(([family, number]) => [number, family as NftFamily]),
)

/**
 * What became of the ruleset, generation by generation, out of NFNLGRP_NFTABLES notifications: the messages of a commit
 * come together and end with NFT_MSG_NEWGEN, which names the process.
 */
export class GenerationLog {
  readonly #onGeneration: (generation: Generation) => void
  readonly #touched = new Map<number, Generation>()
  readonly #tables = new Map<string, { family: NftFamily; table: string }>()
  #waiting: { readonly id: number; readonly resolve: () => void }[] = []
  #latest = 0

  constructor(onGeneration: (generation: Generation) => void) {
    this.#onGeneration = onGeneration
  }

  /** The newest generation that was announced; 0 before the first. */
  get latest(): number {
    return this.#latest
  }

  receive(message: NetlinkMessage): void {
    if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) return
    if (message.type !== nftMessages.newGeneration) {
      // All messages of nf_tables have the table's name as attribute 1 (NFTA_*_TABLE, NFTA_TABLE_NAME).
      const family = families.get(message.payload[0] as number)
      const { name } = decodeAttributes({ name: tableAttributes.name }, message.payload.subarray(4))
      if (family && name !== undefined) this.#tables.set(`${family} ${name}`, { family, table: name })
      return
    }
    const { id, processId, processName } = decodeAttributes(generationAttributes, message.payload.subarray(4))
    if (id === undefined) return
    const process = processId === undefined ? undefined : { pid: processId, name: processName ?? '' }
    const generation = { id, changes: [...this.#tables.values()].map((table) => ({ ...table, process })) }
    this.#tables.clear()
    this.record(generation)
    this.#onGeneration(generation)
  }

  /** Takes note of a generation that was not announced to us, but that we know of. */
  record(generation: Generation): void {
    const { id } = generation
    this.#latest = id
    this.#touched.set(id, generation)
    if (this.#touched.size > kept) this.#touched.delete(this.#touched.keys().next().value as number)
    const due = this.#waiting.filter((waiting) => waiting.id <= id)
    this.#waiting = this.#waiting.filter((waiting) => waiting.id > id)
    for (const { resolve } of due) resolve()
  }

  /** Forgets everything: notifications were lost. */
  reset(): void {
    this.#touched.clear()
    this.#tables.clear()
    this.#latest = 0
  }

  /** Resolves when generation `id` was announced, or after `timeoutMs`. */
  async reached(id: number, timeoutMs: number): Promise<void> {
    if (this.#latest >= id) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs)
      this.#waiting.push({
        id,
        resolve: () => {
          clearTimeout(timer)
          resolve()
        },
      })
    })
  }

  /**
   * Who touched the table in the generations after `from` up to `to`: nobody (`undefined`), somebody, or `unknown` when
   * not all of them were seen.
   */
  touched(family: NftFamily, table: string, from: number, to: number): ForeignChange | 'unknown' | undefined {
    for (let id = from + 1; id <= to; id++) {
      const generation = this.#touched.get(id)
      if (!generation) return 'unknown'
      const change = generation.changes.find((change) => change.table === table && change.family === family)
      if (change) return change
    }
    return undefined
  }
}
