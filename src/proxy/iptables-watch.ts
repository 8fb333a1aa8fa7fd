import type { Clock, Timer } from '../base/clock.ts'
import type { IptablesClient } from '../iptables/client.ts'
import type { NftClient } from '../nftables/client.ts'
import { touchedTables } from './iptables-tables.ts'

/** How often the legacy tables' sizes are looked at: three system calls a family. Repairs are wanted within a second. */
const lookEveryMs = 400
/** How long after a restore of ours its own notifications may still come. */
const echoMs = 100

/**
 * Notices that somebody else changed the tables. With the nft tools the kernel tells; with the legacy ones the number of
 * entries is compared, which costs no reading.
 */
export class IptablesWatch implements Disposable {
  readonly #clients: readonly IptablesClient[]
  readonly #clock: Clock
  readonly #onChange: (by: string | undefined) => void
  readonly #marks = new Map<string, string | undefined>()
  #timer: Timer | undefined
  #busy = 0
  #quietUntil = 0

  constructor(
    { clients, nft }: { readonly clients: readonly IptablesClient[]; readonly nft: NftClient | undefined },
    options: { readonly clock: Clock; readonly onChange: (by: string | undefined) => void },
  ) {
    this.#clients = clients
    this.#clock = options.clock
    this.#onChange = options.onChange
    nft?.watch({
      onChange: ({ family, table, process }) => {
        const isOurs = (family === 'ip' || family === 'ip6') && touchedTables.some((name) => name === table)
        if (isOurs && !this.#isEcho(process?.name)) this.#onChange(process?.name)
      },
      onLost: () => this.#onChange(undefined),
    })
    if (nft) return
    // What is there now is nobody's change.
    this.#look(false)
    this.#lookLater()
  }

  /** Runs a restore of ours; what it changes is not reported. */
  async quietly<T>(work: () => Promise<T>): Promise<T> {
    this.#busy++
    try {
      return await work()
    } finally {
      this.#busy--
      this.#quietUntil = this.#clock.monotonic() + echoMs
      this.#look(false)
    }
  }

  /** The kernel names the process by 15 characters: `iptables-nft-re`. */
  #isEcho(process: string | undefined): boolean {
    const recent = this.#busy > 0 || this.#clock.monotonic() < this.#quietUntil
    return recent && (process === undefined || /^ip6?tables-(?:nft-)?r/.test(process))
  }

  #lookLater(): void {
    this.#timer = this.#clock.after(lookEveryMs, () => {
      if (this.#busy === 0) this.#look(true)
      this.#lookLater()
    })
  }

  #look(report: boolean): void {
    let changed = false
    for (const client of this.#clients) {
      for (const table of touchedTables) {
        const key = `${client.family} ${table}`
        const mark = client.mark(table)
        if (mark !== this.#marks.get(key)) changed = true
        this.#marks.set(key, mark)
      }
    }
    if (changed && report) this.#onChange(undefined)
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }
}
