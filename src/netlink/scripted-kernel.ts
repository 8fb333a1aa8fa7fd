import { AttributeWriter } from './attribute-writer.ts'
import {
  NLM_F_ACK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP_INTR,
  NLM_F_MULTI,
  NLMSG_DONE,
  NLMSG_ERROR,
  splitMessages,
  type NetlinkMessage,
} from './message.ts'
import type { NetlinkTransport } from './transport.ts'

/** One message that the scripted kernel sends back. */
export type ScriptedReply =
  | { readonly kind: 'ack' }
  /** A refusal; `message` and `offset` travel as an extended ack. */
  | { readonly kind: 'error'; readonly errno: number; readonly message?: string; readonly offset?: number }
  /** A single answer, to be followed by an ack. */
  | { readonly kind: 'answer'; readonly type: number; readonly payload: Uint8Array }
  /** A part of a dump; `interrupted` sets NLM_F_DUMP_INTR. */
  | { readonly kind: 'part'; readonly type: number; readonly payload: Uint8Array; readonly interrupted?: boolean }
  /** The end of a dump, which may be a failure. */
  | { readonly kind: 'done'; readonly errno?: number }

/** Answers a request; undefined leaves it unanswered, for {@link ScriptedKernel.answer} later. */
export type ScriptedHandler = (request: NetlinkMessage) => readonly ScriptedReply[] | undefined

const ourPort = 4711

/** Takes the kernel's place behind a NetlinkSocket: each request goes to a handler, whose replies come back later. */
export class ScriptedKernel implements NetlinkTransport {
  readonly port = ourPort
  /** Every request so far. */
  readonly requests: NetlinkMessage[] = []
  /** Datagrams as they were sent. */
  readonly datagrams: Buffer[] = []
  readonly groups = new Set<number>()
  /** Whether the socket would keep the process alive. */
  referenced = true
  closed = false
  receive: (datagram: Buffer) => void = () => {}
  failed: (error: Error) => void = () => {}
  readonly #handler: ScriptedHandler

  constructor(handler: ScriptedHandler) {
    this.#handler = handler
  }

  send(datagram: Buffer): number {
    // The sender may write into its buffer again.
    const copy = Buffer.from(datagram)
    this.datagrams.push(copy)
    for (const request of splitMessages(copy)) {
      this.requests.push(request)
      const replies = this.#handler(request)
      // As a kernel does: the work is done now, the answer is read on a later turn of the event loop.
      if (replies) setImmediate(() => this.answer(request, replies))
    }
    return 0
  }

  sendApart(datagram: Buffer): void {
    this.send(datagram)
  }

  checkLoss(): void {}

  /** Answers a request now, all replies in one datagram. */
  answer(request: NetlinkMessage, replies: readonly ScriptedReply[]): void {
    if (this.closed) return
    const writer = new AttributeWriter()
    for (const reply of replies) {
      // Success is acknowledged to who asks for it only; refusals always are.
      if (reply.kind !== 'ack' || request.flags & NLM_F_ACK) writeReply(writer, request, reply)
    }
    if (writer.bytes().length === 0) return
    this.receive(Buffer.from(writer.bytes()))
  }

  /** Sends a notification, if its group was joined. `cause` is the request that it is the consequence of. */
  notify(
    group: number,
    type: number,
    payload: Uint8Array,
    cause: { readonly seq: number; readonly port: number } = { seq: 0, port: 0 },
  ): void {
    if (this.closed || !this.groups.has(group)) return
    const writer = new AttributeWriter()
    writeMessage(writer, type, 0, cause, payload)
    this.receive(Buffer.from(writer.bytes()))
  }

  /** The receive buffer overran: the kernel dropped messages. */
  overrun(): void {
    this.failed(Object.assign(new Error('ENOBUFS: no buffer space available'), { code: 'ENOBUFS' }))
  }

  join(group: number): void {
    this.groups.add(group)
  }

  ref(): void {
    this.referenced = true
  }

  unref(): void {
    this.referenced = false
  }

  close(): void {
    this.closed = true
  }
}

function writeReply(writer: AttributeWriter, request: NetlinkMessage, reply: ScriptedReply): void {
  switch (reply.kind) {
    case 'ack':
      return writeMessage(writer, NLMSG_ERROR, NLM_F_CAPPED, request, errorPayload(request, 0))
    case 'error':
      return writeMessage(
        writer,
        NLMSG_ERROR,
        NLM_F_CAPPED | (reply.message === undefined && reply.offset === undefined ? 0 : NLM_F_ACK_TLVS),
        request,
        errorPayload(request, reply.errno, reply),
      )
    case 'answer':
      return writeMessage(writer, reply.type, 0, request, reply.payload)
    case 'part':
      return writeMessage(
        writer,
        reply.type,
        NLM_F_MULTI | (reply.interrupted === true ? NLM_F_DUMP_INTR : 0),
        request,
        reply.payload,
      )
    case 'done': {
      const payload = Buffer.alloc(4)
      payload.writeInt32LE(-(reply.errno ?? 0))
      return writeMessage(writer, NLMSG_DONE, NLM_F_MULTI, request, payload)
    }
    default:
      return reply satisfies never
  }
}

function writeMessage(
  writer: AttributeWriter,
  type: number,
  flags: number,
  about: { readonly seq: number; readonly port: number },
  payload: Uint8Array,
): void {
  const at = writer.beginMessage(type, flags, about.seq)
  // Requests leave with port 0: the kernel knows the sender, and answers to its port.
  writer.bytes().writeUInt32LE(about.port === 0 && about.seq !== 0 ? ourPort : about.port, at + 12)
  writer.raw(payload)
  writer.endMessage(at)
}

/** struct nlmsgerr, the request's header echoed, extended ack attributes behind it. */
function errorPayload(
  request: NetlinkMessage,
  errno: number,
  details: { message?: string; offset?: number } = {},
): Buffer {
  const writer = new AttributeWriter()
  const head = Buffer.alloc(20)
  head.writeInt32LE(-errno, 0)
  head.writeUInt32LE(16 + request.payload.length, 4)
  head.writeUInt16LE(request.type, 8)
  head.writeUInt16LE(request.flags, 10)
  head.writeUInt32LE(request.seq, 12)
  writer.raw(head)
  if (details.message !== undefined) writer.string(1, details.message)
  if (details.offset !== undefined) writer.u32(2, details.offset)
  return Buffer.from(writer.bytes())
}
