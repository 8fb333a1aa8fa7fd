/** What several relays may use together: sockets, in the end, of which a process has a limited number. */
export class Quota {
  readonly limit: number
  #used = 0

  constructor(limit: number) {
    this.limit = limit
  }

  get used(): number {
    return this.#used
  }

  /** Takes one; false when none is left. */
  take(): boolean {
    if (this.#used >= this.limit) return false
    this.#used++
    return true
  }

  give(): void {
    this.#used--
  }
}
