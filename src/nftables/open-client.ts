import { setImmediate } from 'node:timers/promises'
import { silentLog, type Log } from '../base/log.ts'
import type { Netns } from '../linux/netns.ts'
import { NETLINK_NETFILTER } from '../netlink/message.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import { openNetlink, type NetlinkSocket } from '../netlink/netlink-socket.ts'
import type { ForeignChange, ListedChain, NftClient, ReadTable } from './client.ts'
import { encodeTransaction, type EncodedTransaction } from './encode-transaction.ts'
import { GenerationLog, type Generation } from './generation-log.ts'
import { generationAttributes, nftMessages, NFNLGRP_NFTABLES, tableAttributes } from './nf-tables-messages.ts'
import { asNftablesError, NftablesError, refusal, refusedError, tableChangedError } from './nftables-error.ts'
import type { NftFamily } from './objects.ts'
import { readChains } from './read-chains.ts'
import { decodeNft, nftPayload, readTable } from './read-table.ts'
import type { Transaction, TransactionResult } from './transaction.ts'

export interface NftablesOptions {
  /** The network namespace whose nf_tables it is. Default: the calling thread's own. */
  readonly netns?: Netns
  readonly log?: Log
}

/** One transaction is one sendmsg: a million elements take some 70 MB; larger ones fail with EMSGSIZE. */
const sendBuffer = 256 << 20
/** Answers: every refused change is one. */
const receiveBuffer = 8 << 20
/** Dumps come in datagrams of up to 32 KiB if we read as much at once. */
const datagramSize = 64 << 10
/** How often a transaction is sent when others commit to other tables meanwhile: some 30 ms of a storm of commits. */
const maxAttempts = 100
/** How often a table is read when commits come between. */
const maxReads = 20
/** How long notifications of a commit that is known to have happened may take. */
const notificationTimeoutMs = 1000
/**
 * The kernel makes a message of every element for whoever follows the ruleset, while it commits: 110,000 elements take 0.16 s
 * with no follower and 1.4 s with one. From this many elements on, the subscription is dropped during the transaction.
 */
const manyElements = 2000

/**
 * Opens nf_tables of a network namespace over nfnetlink. Throws {@link NftablesError}: isPermissionDenied without
 * CAP_NET_ADMIN, isUnsupported without nfnetlink. A kernel without nf_tables shows at the first request (isUnsupported).
 */
export function openNftables(options: NftablesOptions = {}): NftClient {
  return new KernelNftClient(options)
}

class KernelNftClient implements NftClient {
  readonly #socket: NetlinkSocket
  readonly #netns: Netns | undefined
  readonly #log: Log
  readonly #generations: GenerationLog
  readonly #listeners: { onChange(change: ForeignChange): void; onLost(): void }[] = []
  /** By table: the generation that the caller's knowledge of the table is from. */
  readonly #known = new Map<string, number>()
  #notifications: NetlinkSocket
  /** What the kernel calls us: our process id in the first pid namespace. */
  #ownPid: number = process.pid
  /** Reads and transactions go one after another. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: NftablesOptions) {
    this.#netns = options.netns
    this.#log = options.log ?? silentLog
    this.#generations = new GenerationLog((generation) => this.#announce(generation))
    this.#socket = this.#open({ sendBuffer, datagramSize })
    try {
      this.#notifications = this.#follow()
    } catch (error) {
      this.#socket[Symbol.dispose]()
      throw error
    }
  }

  read(family: NftFamily, table: string): Promise<ReadTable | undefined> {
    return this.#inTurn(() => this.#read(family, table))
  }

  run(transaction: Transaction): Promise<TransactionResult> {
    return this.#inTurn(() => this.#run(transaction))
  }

  async listTables(): Promise<readonly { readonly family: NftFamily; readonly name: string }[]> {
    const found: { family: NftFamily; name: string }[] = []
    await translating('list tables', async () => {
      for (const family of ['inet', 'ip', 'ip6', 'bridge'] as const) {
        const payload = nftPayload(family, tableAttributes, {})
        const messages = await this.#socket.dump({ name: 'list tables', type: nftMessages.getTable, payload })
        for (const message of messages) {
          const { name } = decodeNft(tableAttributes, message)
          if (name !== undefined) found.push({ family, name })
        }
      }
    })
    return found
  }

  listChains(): Promise<readonly ListedChain[]> {
    return translating('list chains', () => readChains(this.#socket))
  }

  quietly<T>(work: () => Promise<T>, commits: (result: T) => number): Promise<T> {
    return this.#inTurn(async () => {
      const before = await this.#generation()
      this.#notifications[Symbol.dispose]()
      let expected: number | undefined
      try {
        const result = await work()
        expected = before + commits(result)
        return result
      } finally {
        this.#notifications = this.#follow()
        const now = await this.#generation()
        if (now === expected) {
          for (let id = before + 1; id <= now; id++) this.#generations.record({ id, changes: [] })
        } else if (now !== before) this.#lost()
      }
    })
  }

  watch(listener: { onChange(change: ForeignChange): void; onLost(): void }): void {
    this.#listeners.push(listener)
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]()
    this.#notifications[Symbol.dispose]()
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#last
    const mine = (async () => {
      await before
      return await work()
    })()
    this.#last = mine.catch(() => {})
    return await mine
  }

  async #read(family: NftFamily, table: string): Promise<ReadTable | undefined> {
    const name = `read table ${family} ${table}`
    return await translating(name, async () => {
      for (let attempt = 1; attempt <= maxReads; attempt++) {
        const before = await this.#generation()
        const found = await this.#readOnce(family, table)
        const after = await this.#generation()
        if (before !== after || found === 'gone') continue
        this.#known.set(`${family} ${table}`, after)
        return found
      }
      throw new NftablesError(`${name}: the ruleset changed during each of ${maxReads} reads`, { code: 'EAGAIN' })
    })
  }

  async #readOnce(family: NftFamily, table: string): Promise<ReadTable | undefined | 'gone'> {
    try {
      return await readTable(this.#socket, family, table)
    } catch (error) {
      if (isNetlinkError(error, 'ENOENT')) return 'gone'
      throw error
    }
  }

  async #run(transaction: Transaction): Promise<TransactionResult> {
    const { family, table, changes } = transaction
    if (changes.length === 0) return { bytes: 0, messages: 0, elements: 0, kernelMs: 0 }
    const name = `change table ${family} ${table}`
    return await translating(name, async () => {
      const key = `${family} ${table}`
      // What deletes the whole table does not depend on what is in it.
      const checked = changes[0]?.op !== 'delete-table'
      let known = checked ? (this.#known.get(key) ?? (await this.#generation())) : undefined
      for (let attempt = 1; attempt <= maxAttempts; attempt++) {
        known &&= this.#skipOthers(family, table, known)
        const { encoded, errors, kernelMs } = await this.#send(name, transaction, known)
        const [first] = errors
        if (!first) {
          if (known === undefined) this.#known.delete(key)
          else this.#known.set(key, known + 1)
          const { datagram, messages, elements } = encoded
          return { bytes: datagram.length, messages, elements, kernelMs }
        }
        if (first.errno !== ERESTART || known === undefined) {
          throw refusedError(
            transaction,
            errors.map(({ seq, errno, offset, message }) => {
              const origin = encoded.describe(seq, offset)
              return refusal(origin?.change, errno, {
                ...(origin?.key !== undefined && { key: origin.key }),
                ...(message !== undefined && { kernelMessage: message }),
              })
            }),
          )
        }
        const now = await this.#generation()
        await this.#generations.reached(now, notificationTimeoutMs)
        const change = this.#generations.touched(family, table, known, now)
        if (change !== undefined) {
          const by = change === 'unknown' ? undefined : change.process
          throw tableChangedError(transaction, by && `${by.name} (pid ${by.pid})`)
        }
        known = now
      }
      throw new NftablesError(`${name}: others committed during each of ${maxAttempts} attempts`, { code: 'EAGAIN' })
    })
  }

  async #send(
    name: string,
    transaction: Transaction,
    generation: number | undefined,
  ): Promise<{ encoded: EncodedTransaction } & Awaited<ReturnType<NetlinkSocket['batch']>>> {
    const encode = (firstSeq: number): EncodedTransaction =>
      encodeTransaction(transaction, { firstSeq, ...(generation !== undefined && { generation }) })
    let encoded = encode(this.#socket.takeSeqs(0))
    const firstSeq = this.#socket.takeSeqs(encoded.messages)
    // Only where the numbers begin anew.
    if (firstSeq !== encoded.firstSeq) encoded = encode(firstSeq)
    const { datagram, lastSeq } = encoded
    await previousSendReported()
    const quiet = generation !== undefined && encoded.elements >= manyElements
    if (quiet) this.#notifications[Symbol.dispose]()
    let applied = false
    try {
      const reply = await this.#socket.batch({ name, datagram, firstSeq, lastSeq })
      applied = reply.errors.length === 0
      return { encoded, ...reply }
    } finally {
      if (quiet) await this.#resume(transaction, { generation, applied })
    }
  }

  /** Subscribes again after a large transaction. Nothing was missed if there is no new generation but our own. */
  async #resume(
    { family, table }: Transaction,
    { generation, applied }: { readonly generation: number; readonly applied: boolean },
  ): Promise<void> {
    this.#notifications = this.#follow()
    const now = await this.#generation()
    if (applied && now === generation + 1) {
      const process = { pid: this.#ownPid, name: 'ourselves' }
      this.#generations.record({ id: now, changes: [{ family, table, process }] })
    } else if (applied || now !== generation) this.#lost()
  }

  /** The newest generation that is as good as `known` for this table: all in between are known to be about others. */
  #skipOthers(family: NftFamily, table: string, known: number): number {
    const latest = this.#generations.latest
    return latest > known && this.#generations.touched(family, table, known, latest) === undefined ? latest : known
  }

  async #generation(): Promise<number> {
    const [message] = await this.#socket.request({
      name: 'get the generation of the ruleset',
      type: nftMessages.getGeneration,
      payload: nftPayload('unspec', generationAttributes, {}),
    })
    const { id, processId } = message ? decodeNft(generationAttributes, message) : {}
    if (id === undefined) throw new NftablesError('the kernel did not say its ruleset generation', { code: 'EPROTO' })
    // The answer names the process that asked.
    if (processId !== undefined) this.#ownPid = processId
    return id
  }

  #announce(generation: Generation): void {
    for (const change of generation.changes) {
      if (change.process?.pid === this.#ownPid) continue
      for (const listener of this.#listeners) listener.onChange(change)
    }
  }

  #open(sizes: { readonly sendBuffer: number; readonly datagramSize?: number }): NetlinkSocket {
    const netns = this.#netns
    try {
      return openNetlink({
        protocol: NETLINK_NETFILTER,
        ...sizes,
        receiveBuffer,
        ...(netns && { netns }),
      })
    } catch (error) {
      throw asNftablesError('open nf_tables', error)
    }
  }

  #follow(): NetlinkSocket {
    const socket = this.#open({ sendBuffer: 1 << 16 })
    socket.subscribe(
      NFNLGRP_NFTABLES,
      (message) => this.#generations.receive(message),
      () => this.#lost(),
    )
    return socket
  }

  #lost(): void {
    this.#log.warn({}, 'nf_tables: notifications of changes were lost')
    this.#generations.reset()
    for (const listener of this.#listeners) listener.onLost()
  }
}

const ERESTART = 85

/**
 * The `netlink` package puts a datagram off until it has reported the one before as sent, in a timer of the event loop:
 * kernelMs would then not be measured. After two turns of the loop that is done.
 */
async function previousSendReported(): Promise<void> {
  await setImmediate()
  await setImmediate()
}

async function translating<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw asNftablesError(name, error)
  }
}
