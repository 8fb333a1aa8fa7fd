import { setImmediate } from 'node:timers/promises'
import type { Rtnetlink } from '../netlink/rtnetlink.ts'
import { deleteLinks } from './apply.ts'

/** Deletes links; those that are asked for at the same time go together, which the kernel does 20 times as fast. */
export class LinkDeletions {
  readonly #rtnetlink: Rtnetlink
  #next: Set<number> | undefined
  #nextDone: Promise<void> | undefined
  #current: Promise<void> = Promise.resolve()

  constructor(rtnetlink: Rtnetlink) {
    this.#rtnetlink = rtnetlink
  }

  /** Resolves when the link is gone; one that is gone already is no error. Throws NetlinkError, to all of its batch. */
  async delete(index: number): Promise<void> {
    if (!this.#next) {
      this.#next = new Set()
      this.#nextDone = this.#current = this.#deleteNext(this.#current)
    }
    this.#next.add(index)
    await this.#nextDone
  }

  async #deleteNext(previous: Promise<void>): Promise<void> {
    // A batch that failed was told to those who asked for it.
    await previous.catch(() => {})
    // What else this turn of the event loop brings.
    await setImmediate()
    const indexes = [...(this.#next ?? [])]
    this.#next = undefined
    await deleteLinks(indexes, this.#rtnetlink)
  }
}
