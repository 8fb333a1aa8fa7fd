/** V8 makes a substring of at least this length point into the text that it was cut from. */
const slicedLength = 13

/**
 * Shares equal strings, and cuts them off the text that they were read from: otherwise one name of a Service would keep a
 * whole file in memory.
 */
export class StringPool {
  readonly #known = new Map<string, string>()
  readonly #cut: boolean

  /** `cut: false` for strings that stand for themselves already, as those of JSON.parse do. */
  constructor({ cut = true }: { readonly cut?: boolean } = {}) {
    this.#cut = cut
  }

  readonly intern = (text: string): string => {
    const known = this.#known.get(text)
    if (known !== undefined) return known
    const own = !this.#cut || text.length < slicedLength ? text : Buffer.from(text).toString()
    this.#known.set(own, own)
    return own
  }

  /** Forgets all strings, so that the pool does not hold on to what is gone. */
  clear(): void {
    this.#known.clear()
  }
}
