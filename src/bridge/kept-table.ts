import { BoundedRunner } from '../base/bounded-runner.ts'
import { systemClock, type Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { NftClient, ReadTable } from '../nftables/client.ts'
import { diffTable, type DiffOptions } from '../nftables/diff.ts'
import { withFingerprint } from '../nftables/fingerprint.ts'
import { isTableChanged } from '../nftables/nftables-error.ts'
import type { NftFamily, TableState } from '../nftables/objects.ts'

/** How often a sync begins anew when others change the table meanwhile. */
const maxAttempts = 5

/** What a {@link KeptTable} needs. */
export interface KeptTableOptions {
  readonly family: NftFamily
  readonly name: string
  /** What the table should be at this moment. */
  readonly compile: () => TableState
  readonly nft: NftClient
  readonly log: Log
  readonly clock?: Clock
}

/** Keeps one table in the kernel as it is compiled, and puts it back when somebody else touched it. */
export class KeptTable implements AsyncDisposable {
  readonly #options: KeptTableOptions
  readonly #runner: BoundedRunner
  /** What the kernel held after our last transaction. Undefined: unknown, it must be read. */
  #known: ReadTable | undefined
  /** The last change that was begun, and the one that waits for it: whoever comes meanwhile is served by the latter. */
  #running: Promise<void> = Promise.resolve()
  #waiting: Promise<void> | undefined
  #following = false
  #repairs = 0

  constructor(options: KeptTableOptions) {
    const { family, name, log, clock = systemClock } = options
    this.#options = options
    this.#runner = new BoundedRunner({
      run: async (reason) => {
        if (reason === 'verify') return
        await this.sync({ rewriteRules: true })
        this.#repairs++
        log.warn({ table: name }, `Repaired what another program changed: table ${family} ${name}`)
      },
      clock,
      onError: (error, { failures, retryInMs }) =>
        log.error({ err: error, failures, retryInMs }, `Cannot write table ${family} ${name}, trying again`),
    })
  }

  /** How often it was put back. */
  get repairs(): number {
    return this.#repairs
  }

  /**
   * Reads the table and makes it what it should be, in one transaction; one that is right is left alone. With
   * `rewriteRules`, its rules are not believed to be right. Throws NftablesError.
   */
  async sync(options: DiffOptions = {}): Promise<void> {
    await this.#inTurn(() => this.#write({ ...options, read: true }))
  }

  /**
   * Writes what has changed since, in one transaction, without reading the table; callers of one moment share it.
   * Resolves when the kernel has it. Throws NftablesError.
   */
  async update(): Promise<void> {
    this.#waiting ??= this.#inTurn(() => {
      this.#waiting = undefined
      return this.#write({ read: false })
    })
    try {
      await this.#waiting
    } catch (error) {
      // The caller cannot know what else it carried.
      if (this.#following) this.#runner.request()
      throw error
    }
  }

  /** Writes it again whenever another process changed it, from now on. */
  follow(): void {
    if (this.#following) return
    this.#following = true
    const { family, name, log, nft } = this.#options
    nft.watch({
      onChange: ({ family: itsFamily, table, process }) => {
        if (family !== itsFamily || table !== name) return
        const who = process?.name ?? 'another program'
        log.warn({ table, process }, `Table ${family} ${table} was changed by ${who}`)
        this.#runner.request()
      },
      onLost: () => this.#runner.request(),
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#runner.stop()
    await this.#runner.settled()
    await this.#running.catch(() => {})
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    // What failed before was told to whoever asked for it.
    this.#running = this.#running.catch(() => {}).then(work)
    return this.#running
  }

  async #write(options: DiffOptions & { read: boolean }): Promise<void> {
    const { family, name, nft, compile } = this.#options
    for (let attempt = 1; ; attempt++) {
      const known = this.#known
      const current = options.read || attempt > 1 || !known ? await nft.read(family, name) : known
      const wanted = compile()
      this.#known = undefined
      const changes = diffTable(current, wanted, options)
      try {
        if (changes.length > 0) await nft.run({ family, table: name, changes })
        this.#known = asRead(wanted)
        return
      } catch (error) {
        // Somebody changed the table since it was read.
        if (!isTableChanged(error) || attempt === maxAttempts) throw error
      }
    }
  }
}

function asRead(state: TableState): ReadTable {
  const whole = withFingerprint(state)
  return { ...whole, ruleCounts: new Map(whole.chains.map(({ name, rules }) => [name, rules.length])) }
}
