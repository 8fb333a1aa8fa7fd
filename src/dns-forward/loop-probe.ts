import { randomBytes } from 'node:crypto'
import { type Name, type NameKey, parseName } from '../dns-message/name.ts'

/**
 * Finds out whether a resolver sends questions back to us: it is asked for a name that nobody else can know, and when that
 * name is asked of us, it does. The name cannot be guessed, so nobody can make us believe in a loop (CVE-2026-26018).
 */
export class LoopProbe {
  readonly #open = new Map<NameKey, () => void>()

  /** Whether the name of a question is one of ours, on its way back. */
  isReturning(key: NameKey): boolean {
    const found = this.#open.get(key)
    found?.()
    return found !== undefined
  }

  /** Sends a name of its own with `send`, which resolves or rejects when there is nothing more to wait for. */
  async loops(send: (name: Name) => Promise<unknown>): Promise<boolean> {
    // Two labels, because names of one label may be the pods' (network-names.ts).
    const name = parseName(`${randomBytes(15).toString('hex')}.${randomBytes(8).toString('hex')}.`)
    const { promise, resolve } = Promise.withResolvers<boolean>()
    this.#open.set(name.key, () => resolve(true))
    send(name).then(
      () => resolve(false),
      () => resolve(false),
    )
    try {
      return await promise
    } finally {
      this.#open.delete(name.key)
    }
  }
}
