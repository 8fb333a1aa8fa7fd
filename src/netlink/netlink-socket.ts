import { AttributeWriter } from './attribute-writer.ts'
import {
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_MULTI,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
  parseAcknowledgement,
  splitMessages,
  type Acknowledgement,
  type NetlinkMessage,
} from './message.ts'
import { NetlinkError, NetlinkSocketError } from './netlink-error.ts'
import { openTransport, type NetlinkTransport, type TransportOptions } from './transport.ts'

/** One request to the kernel. */
export interface NetlinkRequest {
  /** What is asked, as a person would say it, for errors: `create link fl0`. */
  readonly name: string
  readonly type: number
  /** Besides NLM_F_REQUEST, and NLM_F_ACK or NLM_F_DUMP. */
  readonly flags?: number
  /** Family header and attributes. */
  readonly payload: Uint8Array
}

/** A prepared datagram of many messages with consecutive sequence numbers (an nfnetlink transaction). */
export interface NetlinkBatch {
  readonly name: string
  readonly datagram: Buffer
  /** Sequence number of the first message. An error for it means that nothing else was looked at. */
  readonly firstSeq: number
  /** Sequence number of the last message that asks for an acknowledgement. */
  readonly lastSeq: number
}

/** How requests travel. */
export interface SendOptions {
  /**
   * For what keeps the kernel busy for many milliseconds: another thread hands it over, so that this one goes on. Requests
   * that are sent meanwhile may overtake it. @default false
   */
  readonly apart?: boolean
}

/** What the kernel said to a batch. */
export interface BatchReply {
  /** Errors by the sequence number of the message that they are about, in the kernel's order. Empty: all was applied. */
  readonly errors: readonly (Acknowledgement & { readonly seq: number })[]
  /** Milliseconds that the kernel worked on the batch. */
  readonly kernelMs: number
}

interface Pending {
  readonly name: string
  readonly messages: NetlinkMessage[]
  /** Sequence numbers of requests of the same datagram: with the end of this one, those that were not refused have succeeded. */
  readonly before: readonly number[]
  interrupted: boolean
  readonly resolve: (messages: NetlinkMessage[]) => void
  readonly reject: (error: Error) => void
}

interface PendingBatch {
  readonly batch: NetlinkBatch
  readonly kernelMs: () => number
  readonly errors: (Acknowledgement & { seq: number })[]
  readonly resolve: (reply: BatchReply) => void
  readonly reject: (error: Error) => void
}

/** How often a dump is repeated when the kernel's table changed while it was read (NLM_F_DUMP_INTR). */
const maxDumpAttempts = 20

/**
 * Requests, dumps, batches and notifications over one netlink socket, with sequence numbers of its own. Any number of
 * requests may be under way.
 */
export class NetlinkSocket implements Disposable {
  readonly #transport: NetlinkTransport
  readonly #pending = new Map<number, Pending>()
  readonly #batches: PendingBatch[] = []
  readonly #listeners: { onMessage: (message: NetlinkMessage) => void; onLost: (error: Error) => void }[] = []
  #seq = 1
  /** The kernel does one dump at a time for a socket and answers EBUSY to the next (netlink_dump_start()). */
  #dumping: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(transport: NetlinkTransport) {
    this.#transport = transport
    transport.receive = (datagram) => this.#receive(datagram)
    transport.failed = (error) => this.#fail(error)
    transport.unref()
  }

  /** Asks for one thing. Resolves with the answer's messages (none, when the kernel only acknowledges). */
  async request(request: NetlinkRequest, options: SendOptions = {}): Promise<NetlinkMessage[]> {
    const [result] = await this.pipeline([request], options)
    if (result instanceof Error) throw result
    return result ?? []
  }

  /**
   * Sends many requests in one datagram. The kernel works through all of them, whatever becomes of each: the results,
   * in order, are each request's messages or its error. Only the last one asks for an acknowledgement (the kernel makes a
   * datagram of each): refusals come without being asked for, and in order.
   */
  async pipeline(
    requests: readonly NetlinkRequest[],
    options: SendOptions = {},
  ): Promise<(NetlinkMessage[] | NetlinkError | Error)[]> {
    if (requests.length === 0) return []
    const writer = new AttributeWriter(256 * requests.length)
    const first = this.takeSeqs(requests.length)
    const answers = requests.map((request, index) => {
      const isLast = index === requests.length - 1
      const flags = NLM_F_REQUEST | (isLast ? NLM_F_ACK : 0) | (request.flags ?? 0)
      const message = writer.beginMessage(request.type, flags, first + index)
      writer.raw(request.payload)
      writer.endMessage(message)
      return this.#expect(first + index, request.name, isLast ? requests.map((_, before) => first + before) : [])
    })
    const settled = Promise.allSettled(answers)
    this.#send(writer.bytes(), options)
    return (await settled).map((outcome) =>
      outcome.status === 'fulfilled' ? outcome.value : (outcome.reason as Error),
    )
  }

  /** Lists things. Starts again when the kernel says that the list changed while it was read. */
  async dump(request: NetlinkRequest, options: SendOptions = {}): Promise<NetlinkMessage[]> {
    const turn = this.#dumping.then(() => this.#dumpNow(request, options))
    this.#dumping = turn.catch(() => {})
    return await turn
  }

  async #dumpNow(request: NetlinkRequest, options: SendOptions): Promise<NetlinkMessage[]> {
    for (let attempt = 1; ; attempt++) {
      const seq = this.takeSeqs(1)
      const writer = new AttributeWriter(64 + request.payload.length)
      const message = writer.beginMessage(request.type, NLM_F_REQUEST | NLM_F_DUMP | (request.flags ?? 0), seq)
      writer.raw(request.payload)
      writer.endMessage(message)
      const answer = this.#expect(seq, request.name)
      const entry = this.#pending.get(seq)
      this.#send(writer.bytes(), options)
      const messages = await answer
      if (!entry?.interrupted) return messages
      if (attempt === maxDumpAttempts)
        throw new NetlinkSocketError(`${request.name}: changed during each of ${attempt} reads`)
    }
  }

  /** Sends a prepared batch; resolves when its last message was acknowledged or refused. */
  async batch(batch: NetlinkBatch): Promise<BatchReply> {
    if (this.#closed) throw new NetlinkSocketError(`${batch.name}: the netlink socket is closed`)
    return await new Promise<BatchReply>((resolve, reject) => {
      let kernelMs = 0
      this.#batches.push({ batch, kernelMs: () => kernelMs, errors: [], resolve, reject })
      kernelMs = this.#send(batch.datagram)
    })
  }

  /** Reserves `count` consecutive sequence numbers and returns the first. */
  takeSeqs(count: number): number {
    if (this.#seq + count > 0x7fff_ffff) this.#seq = 1
    const first = this.#seq
    this.#seq += count
    return first
  }

  /**
   * Joins a multicast group; the listener hears every group of this socket. Not on a socket that makes changes itself:
   * their notifications would be taken for answers. `onLost` is called when the kernel had to drop notifications: whoever follows changes must
   * then read the whole state again.
   */
  subscribe(group: number, onMessage: (message: NetlinkMessage) => void, onLost: (error: Error) => void): void {
    this.#listeners.push({ onMessage, onLost })
    this.#transport.join(group)
  }

  [Symbol.dispose](): void {
    if (this.#closed) return
    this.#closed = true
    this.#rejectAll(new NetlinkSocketError('the netlink socket was closed'))
    this.#transport.close()
  }

  #send(datagram: Buffer, { apart = false }: SendOptions = {}): number {
    // The answers that are awaited were rejected already.
    if (this.#closed) return 0
    this.#transport.ref()
    if (apart) {
      this.#transport.sendApart(datagram)
      return 0
    }
    return this.#transport.send(datagram)
  }

  #expect(seq: number, name: string, before: readonly number[] = []): Promise<NetlinkMessage[]> {
    if (this.#closed) return Promise.reject(new NetlinkSocketError(`${name}: the netlink socket is closed`))
    return new Promise((resolve, reject) => {
      this.#pending.set(seq, { name, messages: [], before, interrupted: false, resolve, reject })
    })
  }

  #receive(datagram: Buffer): void {
    for (const message of splitMessages(datagram)) {
      if (message.type === NLMSG_NOOP) continue
      // A notification carries the port and sequence number of the request that caused it: another program's may have
      // a number that is pending here.
      const isOurs = this.#transport.port === undefined || message.port === this.#transport.port
      const pending = isOurs ? this.#pending.get(message.seq) : undefined
      if (pending) this.#answer(pending, message)
      else if (!isOurs || !this.#answerBatch(message))
        for (const listener of this.#listeners) listener.onMessage(message)
    }
    if (!this.#closed && this.#pending.size === 0 && this.#batches.length === 0) this.#transport.unref()
  }

  #answer(pending: Pending, message: NetlinkMessage): void {
    if (message.flags & NLM_F_DUMP_INTR) pending.interrupted = true
    if (message.type === NLMSG_ERROR) {
      this.#settleBefore(pending)
      this.#pending.delete(message.seq)
      const { errno, ...details } = parseAcknowledgement(message)
      if (errno === 0) pending.resolve(pending.messages)
      else pending.reject(new NetlinkError(pending.name, errno, details))
    } else if (message.type === NLMSG_DONE) {
      this.#pending.delete(message.seq)
      // A dump that fails half-way says so in the DONE message.
      const errno = message.payload.length >= 4 ? -message.payload.readInt32LE(0) : 0
      if (errno > 0) pending.reject(new NetlinkError(pending.name, errno))
      else pending.resolve(pending.messages)
    } else {
      // The datagram's buffer is shared by all its messages: fine to keep, they are kept together.
      pending.messages.push(message)
      // Requests ask for an acknowledgement, which ends them; dumps end with DONE.
      if (message.flags & NLM_F_MULTI) return
    }
  }

  #settleBefore({ before }: Pending): void {
    if (before.length < 2) return
    // A refusal may have been dropped.
    this.#transport.checkLoss()
    for (const seq of before.slice(0, -1)) {
      const pending = this.#pending.get(seq)
      this.#pending.delete(seq)
      pending?.resolve(pending.messages)
    }
  }

  #answerBatch(message: NetlinkMessage): boolean {
    if (message.type !== NLMSG_ERROR) return false
    const index = this.#batches.findIndex(({ batch }) => message.seq >= batch.firstSeq && message.seq <= batch.lastSeq)
    const entry = this.#batches[index]
    if (!entry) return false
    const acknowledgement = parseAcknowledgement(message)
    if (acknowledgement.errno !== 0) entry.errors.push({ ...acknowledgement, seq: message.seq })
    const refusedWhole = message.seq === entry.batch.firstSeq && acknowledgement.errno !== 0
    if (message.seq === entry.batch.lastSeq || refusedWhole) {
      this.#batches.splice(index, 1)
      entry.resolve({ errors: entry.errors, kernelMs: entry.kernelMs() })
    }
    return true
  }

  #fail(error: Error): void {
    const lost = new NetlinkSocketError(`netlink messages were lost: ${error.message}`, { cause: error })
    this.#rejectAll(lost)
    for (const listener of this.#listeners) listener.onLost(lost)
  }

  #rejectAll(error: Error): void {
    const pending = [...this.#pending.values(), ...this.#batches]
    this.#pending.clear()
    this.#batches.length = 0
    for (const { reject } of pending) reject(error)
  }
}

/** Opens a netlink socket, in another network namespace if one is given. Throws SyscallError (EPERM without root). */
export function openNetlink(options: TransportOptions): NetlinkSocket {
  return new NetlinkSocket(openTransport(options))
}
