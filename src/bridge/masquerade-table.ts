import { BoundedRunner } from '../base/bounded-runner.ts'
import { systemClock, type Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { NftClient } from '../nftables/client.ts'
import { diffTable } from '../nftables/diff.ts'
import { NftablesError } from '../nftables/nftables-error.ts'
import { compileMasquerade } from './masquerade.ts'
import { bridgeTable } from './names.ts'
import type { Network } from './network.ts'

/** How often a sync begins anew when others change the table meanwhile. */
const maxAttempts = 5

/** Keeps the masquerade table in the kernel, and puts it back when somebody else touched it. */
export class MasqueradeTable implements AsyncDisposable {
  readonly #nft: NftClient
  readonly #networks: () => readonly Network[]
  readonly #log: Log
  readonly #runner: BoundedRunner
  #following = false
  #repairs = 0

  constructor(
    networks: () => readonly Network[],
    options: { readonly nft: NftClient; readonly log: Log; readonly clock?: Clock },
  ) {
    const { nft, log, clock = systemClock } = options
    this.#nft = nft
    this.#log = log
    this.#networks = networks
    this.#runner = new BoundedRunner({
      run: async (reason) => {
        if (reason === 'verify') return
        await this.sync({ rewriteRules: true })
        this.#repairs++
        log.warn({ table: bridgeTable }, `Repaired what another program changed: table inet ${bridgeTable}`)
      },
      clock,
      onError: (error, { failures, retryInMs }) =>
        log.error({ err: error, failures, retryInMs }, 'Cannot write the masquerade table, trying again'),
    })
  }

  /** How often it was put back. */
  get repairs(): number {
    return this.#repairs
  }

  /**
   * Makes the table in the kernel what it should be, in one transaction; one that is right is left alone. With
   * `rewriteRules`, its rules are not believed to be right. Throws NftablesError.
   */
  async sync(options: { readonly rewriteRules?: boolean } = {}): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const table = compileMasquerade(this.#networks())
      const { family, name } = table
      const changes = diffTable(await this.#nft.read(family, name), table, options)
      try {
        await this.#nft.run({ family, table: name, changes })
        return
      } catch (error) {
        // Somebody changed the table since it was read.
        if (!(error instanceof NftablesError) || error.code !== 'ESTALE' || attempt === maxAttempts) throw error
      }
    }
  }

  /** Brings what has changed since to the kernel. Throws NftablesError. */
  async update(): Promise<void> {
    await this.sync()
  }

  /** Writes it again whenever another process changed it, from now on. */
  follow(): void {
    if (this.#following) return
    this.#following = true
    this.#nft.watch({
      onChange: ({ family, table, process }) => {
        if (family !== 'inet' || table !== bridgeTable) return
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
