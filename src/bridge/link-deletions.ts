import { setImmediate } from 'node:timers/promises'
import type { Rtnetlink } from '../rtnetlink/rtnetlink.ts'
import { deleteLinks } from './apply.ts'

/** Batches that the kernel still has to acknowledge: each holds one of the four threads of Node's pool meanwhile. */
const maxUnacknowledged = 2

interface Batch {
  /** Those that are still there. */
  readonly indexes: Set<number>
  readonly gone: PromiseWithResolvers<void>
}

/**
 * Deletes links; those that are asked for at the same time go together, which the kernel does 20 times as fast. The kernel
 * says at once that a link is gone ({@link noteGone}), 16 ms before it has its memory back and acknowledges.
 */
export class LinkDeletions {
  readonly #rtnetlink: Rtnetlink
  #next: Set<number> | undefined
  #nextDone: Promise<void> | undefined
  #previous: Promise<void> = Promise.resolve()
  readonly #batches = new Set<Batch>()
  readonly #unacknowledged = new Set<Promise<void>>()

  constructor(rtnetlink: Rtnetlink) {
    this.#rtnetlink = rtnetlink
  }

  /**
   * Resolves when the link is gone, and its far end and all addresses with it; one that is gone already is no error. Throws
   * NetlinkError, to all of its batch.
   */
  async delete(index: number): Promise<void> {
    if (!this.#next) {
      this.#next = new Set()
      this.#nextDone = this.#previous = this.#deleteNext(this.#previous)
    }
    this.#next.add(index)
    await this.#nextDone
  }

  /** To be called when the kernel notifies that a link is gone. Without it, deletions take as long as their acknowledgement. */
  noteGone(index: number): void {
    for (const { indexes, gone } of this.#batches) {
      if (indexes.delete(index) && indexes.size === 0) gone.resolve()
    }
  }

  async #deleteNext(previous: Promise<void>): Promise<void> {
    // A batch that failed was told to those who asked for it.
    await previous.catch(() => {})
    while (this.#unacknowledged.size >= maxUnacknowledged) await Promise.race(this.#unacknowledged)
    // What else this turn of the event loop brings.
    await setImmediate()
    const indexes = this.#next ?? new Set()
    this.#next = undefined
    const batch: Batch = { indexes: new Set(indexes), gone: Promise.withResolvers() }
    this.#batches.add(batch)
    const deleted = deleteLinks([...indexes], this.#rtnetlink).finally(() => this.#batches.delete(batch))
    const acknowledged = deleted
      .catch(() => {
        // Told by the race below.
      })
      .finally(() => this.#unacknowledged.delete(acknowledged))
    this.#unacknowledged.add(acknowledged)
    await Promise.race([deleted, batch.gone.promise])
    const [first] = indexes
    // The far ends go in the same hold of the kernel's lock as the notification, which any question waits for.
    if (first !== undefined && batch.indexes.size === 0) await this.#rtnetlink.links.find(first)
  }
}
