import { BoundedRunner } from '../base/bounded-runner.ts'
import { systemClock, type Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { NftClient } from '../nftables/client.ts'
import type { TableState } from '../nftables/objects.ts'
import { compileMasquerade } from './masquerade.ts'
import type { Network } from './network.ts'
import { replaceTable } from './replace-table.ts'

/** Keeps the masquerade table in the kernel: it writes it whole, and again when somebody else touched it. */
export class MasqueradeTable implements AsyncDisposable {
  readonly #nft: NftClient
  readonly #table: TableState
  readonly #log: Log
  readonly #runner: BoundedRunner
  #following = false

  constructor(
    networks: readonly Network[],
    options: { readonly nft: NftClient; readonly log: Log; readonly clock?: Clock },
  ) {
    const { nft, log, clock = systemClock } = options
    this.#nft = nft
    this.#log = log
    this.#table = compileMasquerade(networks)
    this.#runner = new BoundedRunner({
      run: async (reason) => {
        if (reason === 'verify') return
        await this.sync()
        log.warn({ table: this.#table.name }, `Repaired what another program changed: table inet ${this.#table.name}`)
      },
      clock,
      onError: (error, { failures, retryInMs }) =>
        log.error({ err: error, failures, retryInMs }, 'Cannot write the masquerade table, trying again'),
    })
  }

  /**
   * Writes the table, in one transaction. It is a handful of rules, and the kernel does not give rules back in a form that
   * could be compared, so it is replaced whole; connections keep their translation, which is conntrack's.
   */
  async sync(): Promise<void> {
    const { family, name } = this.#table
    const exists = (await this.#nft.listTables()).some((table) => table.family === family && table.name === name)
    await this.#nft.run({ family, table: name, changes: replaceTable(this.#table, { exists }) })
  }

  /** Writes it again whenever another process changed it, from now on. */
  follow(): void {
    if (this.#following) return
    this.#following = true
    this.#nft.watch({
      onChange: ({ family, table, process }) => {
        if (family !== this.#table.family || table !== this.#table.name) return
        this.#log.warn({ table, process }, `Table inet ${table} was changed by ${process?.name ?? 'another program'}`)
        this.#runner.request()
      },
      onLost: () => this.#runner.request(),
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#runner.stop()
    await this.#runner.settled()
  }
}
