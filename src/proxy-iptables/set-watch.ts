import type { Clock, Timer } from '../base/clock.ts'
import type { IpSets } from '../iptables/ip-set.ts'

/** How often sizes are looked at: repairs are wanted within a second. */
const lookEveryMs = 400

/**
 * Notices that somebody else took addresses out of our sets, or put some in: ip_set tells nobody, so the numbers are compared. One address
 * for another is not seen; the hourly comparison finds it.
 */
export class SetWatch implements Disposable {
  readonly #sets: IpSets
  readonly #clock: Clock
  readonly #onChange: () => void
  /** By name, as our last write left them. A new map with each write, so that a look knows of one that it overlapped. */
  #expected: ReadonlyMap<string, number | undefined> = new Map()
  #timer: Timer | undefined
  #disposed = false

  constructor(sets: IpSets, options: { readonly clock: Clock; readonly onChange: () => void }) {
    this.#sets = sets
    this.#clock = options.clock
    this.#onChange = options.onChange
    this.#lookLater()
  }

  /** Nothing is expected while we write. */
  pause(): void {
    this.#expected = new Map()
  }

  /** What these sets hold now is what we wrote. */
  async expect(names: readonly string[]): Promise<void> {
    this.#expected = await this.#read(names)
  }

  async #look(): Promise<void> {
    const expected = this.#expected
    const now = await this.#read([...expected.keys()])
    if (expected !== this.#expected || this.#disposed) return
    if ([...expected].every(([name, size]) => now.get(name) === size)) return
    this.#expected = new Map()
    this.#onChange()
  }

  async #read(names: readonly string[]): Promise<ReadonlyMap<string, number | undefined>> {
    const sizes = new Map<string, number | undefined>()
    for (const name of names) sizes.set(name, await this.#sets.size(name))
    return sizes
  }

  #lookLater(): void {
    if (this.#disposed) return
    this.#timer = this.#clock.after(lookEveryMs, () => {
      // A look that fails (ENOBUFS) is as one that saw something: the sync that follows says what is wrong.
      this.#look()
        .catch(() => this.#onChange())
        .finally(() => this.#lookLater())
    })
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    this.#timer?.cancel()
  }
}
