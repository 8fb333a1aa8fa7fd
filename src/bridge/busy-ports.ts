/** Names of ports and bridges that are being made or removed: no reconciliation may judge them. */
export class BusyPorts {
  readonly #names = new Set<string>()
  /** Of each reconciliation under way: the names that were busy at any moment of it. */
  readonly #judgements = new Set<Set<string>>()

  has(name: string): boolean {
    return this.#names.has(name)
  }

  begin(name: string): void {
    this.#names.add(name)
    for (const judgement of this.#judgements) judgement.add(name)
  }

  end(name: string): void {
    this.#names.delete(name)
  }

  /** Does work with the names that it must not judge: those that are busy now, or become so while it goes on. */
  async judge<T>(work: (busy: ReadonlySet<string>) => Promise<T>): Promise<T> {
    const busy = new Set(this.#names)
    this.#judgements.add(busy)
    try {
      return await work(busy)
    } finally {
      this.#judgements.delete(busy)
    }
  }
}
