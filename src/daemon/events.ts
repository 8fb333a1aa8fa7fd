/** Something that happened, for people who watch: one line each. */
export interface DaemonEvent {
  readonly time: Date
  /** The part that says it: `services`, `network`, `dns`, `source`, `pod`, `daemon`. */
  readonly part: string
  readonly message: string
}

/** The last events, and those who follow them. */
export class EventLog {
  readonly #capacity: number
  readonly #recent: DaemonEvent[] = []
  readonly #followers = new Set<(event: DaemonEvent) => void>()

  constructor(capacity = 200) {
    this.#capacity = capacity
  }

  add(part: string, message: string): void {
    const event = { time: new Date(), part, message }
    this.#recent.push(event)
    if (this.#recent.length > this.#capacity) this.#recent.shift()
    for (const follower of this.#followers) follower(event)
  }

  get recent(): readonly DaemonEvent[] {
    return this.#recent
  }

  /** Calls `follower` for each new event until the returned function is called. */
  follow(follower: (event: DaemonEvent) => void): () => void {
    this.#followers.add(follower)
    return () => this.#followers.delete(follower)
  }
}

/** `12:03:58 services  default/web: 3 endpoints` */
export function formatEvent(event: DaemonEvent): string {
  return `${event.time.toTimeString().slice(0, 8)} ${event.part.padEnd(8)} ${event.message}`
}
