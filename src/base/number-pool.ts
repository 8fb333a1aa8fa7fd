/**
 * Hands out numbers 0..size-1, each where the hash of a name points, or in the next free place. The first `low` numbers
 * come last, so that people who choose by hand find free ones there (KEP-3070 for addresses, KEP-3668 for node ports).
 */
export class NumberPool {
  readonly size: number
  readonly #low: number
  readonly #excluded: ReadonlySet<number>
  /** How many hold a number. Two objects may claim one by hand; who wins is not the pool's business. */
  readonly #holders = new Map<number, number>()

  constructor(size: number, options: { readonly low: number; readonly excluded?: ReadonlySet<number> }) {
    this.size = size
    this.#low = options.low
    this.#excluded = options.excluded ?? new Set()
  }

  isFree(number: number): boolean {
    return number >= 0 && number < this.size && !this.#holders.has(number) && !this.#excluded.has(number)
  }

  hold(number: number): void {
    this.#holders.set(number, (this.#holders.get(number) ?? 0) + 1)
  }

  release(number: number): void {
    const holders = (this.#holders.get(number) ?? 0) - 1
    if (holders > 0) this.#holders.set(number, holders)
    else this.#holders.delete(number)
  }

  /** A free number for `name`, not yet held; undefined when none is left. */
  find(name: string): number | undefined {
    const high = this.size - this.#low
    const start = high > 0 ? hashOf(name) % high : 0
    for (let step = 0; step < high; step++) {
      const number = this.#low + ((start + step) % high)
      if (this.isFree(number)) return number
    }
    for (let number = 0; number < Math.min(this.#low, this.size); number++) if (this.isFree(number)) return number
    return undefined
  }
}

/** FNV-1a with the finisher of MurmurHash3, as an unsigned 32-bit number. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
