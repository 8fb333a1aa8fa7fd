import type { Clock, Timer } from '../base/clock.ts'
import type { IptablesClient } from './client.ts'
import type { TableName } from './objects.ts'
import type { OwnRestores } from './own-restores.ts'

/** How often the legacy tables' sizes are looked at: a system call for each. Repairs are wanted within a second. */
const lookEveryMs = 400

/** As much of `NftClient` as is needed here: this folder does not know nf_tables. */
export interface TableNotifications {
  watch(listener: {
    onChange(change: { family: string; table: string; process: { readonly name: string } | undefined }): void
    onLost(): void
  }): void
}

/** What a {@link TableWatch} looks at. */
export interface TableWatchOptions {
  readonly clients: readonly IptablesClient[]
  readonly tables: readonly TableName[]
  /** Tells of changes of the nft kind's tables; undefined with the legacy tools. */
  readonly nft: TableNotifications | undefined
  /** What is not reported. */
  readonly restores: OwnRestores
  readonly clock: Clock
  /** `by`: the program that did it, where the kernel says so. */
  readonly onChange: (by: string | undefined) => void
}

/**
 * Notices that somebody else changed tables. With the nft tools the kernel tells; with the legacy ones the number of
 * entries is compared, which costs no reading.
 */
export class TableWatch implements Disposable {
  readonly #options: TableWatchOptions
  readonly #marks = new Map<string, string | undefined>()
  readonly #forget: () => void
  #timer: Timer | undefined
  #disposed = false

  constructor(options: TableWatchOptions) {
    this.#options = options
    const { nft, tables, restores, onChange } = options
    nft?.watch({
      onChange: ({ family, table, process }) => {
        const isOurs = (family === 'ip' || family === 'ip6') && tables.some((name) => name === table)
        if (isOurs && !this.#disposed && !this.#isEcho(process?.name)) onChange(process?.name)
      },
      onLost: () => {
        if (!this.#disposed) onChange(undefined)
      },
    })
    if (nft) {
      this.#forget = () => {}
      return
    }
    this.#forget = restores.watch({ before: () => this.#look(true), after: () => this.#look(false) })
    // What is there now is nobody's change.
    this.#look(false)
    this.#lookLater()
  }

  /** The kernel names the process by 15 characters: `iptables-nft-re`. */
  #isEcho(process: string | undefined): boolean {
    return this.#options.restores.recent && (process === undefined || /^ip6?tables-(?:nft-)?r/.test(process))
  }

  #lookLater(): void {
    this.#timer = this.#options.clock.after(lookEveryMs, () => {
      if (!this.#options.restores.busy) this.#look(true)
      this.#lookLater()
    })
  }

  #look(report: boolean): void {
    const { clients, tables, onChange } = this.#options
    let changed = false
    for (const client of clients) {
      for (const table of tables) {
        const key = `${client.family} ${table}`
        const mark = client.mark(table)
        if (mark !== this.#marks.get(key)) changed = true
        this.#marks.set(key, mark)
      }
    }
    if (changed && report) onChange(undefined)
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    this.#forget()
    this.#timer?.cancel()
    this.#timer = undefined
  }
}
