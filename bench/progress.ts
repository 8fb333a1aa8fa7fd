/** Says on the error stream what is being done, how much of all is done, and how long the rest will take. */
export class Progress {
  readonly #write: (text: string) => void
  readonly #now: () => number
  readonly #began: number
  readonly #total: number
  #done = 0
  #current = 0
  #share = 0
  #saidAt = Number.NEGATIVE_INFINITY

  /** `totalSeconds`: what all suites together expect to take. */
  constructor(totalSeconds: number, options: { write?: (text: string) => void; now?: () => number } = {}) {
    this.#write = options.write ?? ((text) => void process.stderr.write(`${text}\n`))
    this.#now = options.now ?? (() => performance.now())
    this.#began = this.#now()
    this.#total = totalSeconds
  }

  /** A suite begins that expects to take so long. */
  begin(seconds: number): void {
    this.#done += this.#current
    this.#current = seconds
    this.#share = 0
  }

  /** What is being done now; `share`, from 0 to 1, of this suite is done. */
  say(text: string, share?: number): void {
    if (share !== undefined) this.#share = Math.min(1, share)
    this.#saidAt = this.#now()
    this.#write(`${this.#left()} ${text}`)
  }

  /** The same for small steps: what was said less than two seconds ago is enough. */
  step(text: string, share: number): void {
    this.#share = Math.min(1, share)
    if (this.#now() - this.#saidAt >= 2000) this.say(text)
  }

  /** Expected seconds of what is left, corrected by how long what is done took. */
  secondsLeft(): number {
    const done = this.#done + this.#current * this.#share
    const took = (this.#now() - this.#began) / 1000
    // Early on the estimate says more than the little that was seen.
    const pace = (took + 20) / (done + 20)
    return Math.max(0, (this.#total - done) * pace)
  }

  #left(): string {
    const seconds = Math.round(this.secondsLeft())
    const text =
      seconds >= 5400
        ? `${(seconds / 3600).toFixed(1)} h`
        : seconds >= 90
          ? `${Math.round(seconds / 60)} min`
          : `${seconds} s`
    return `[${text} left]`.padEnd(14)
  }
}
