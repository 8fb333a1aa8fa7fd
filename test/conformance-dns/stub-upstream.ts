import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { readName } from '../../src/dns-message/name.ts'
import type { StubAnswer } from './dns-case.ts'
import type { ExpectedRecord } from './record-text.ts'

const [CNAME, OPT, ANY, NXDOMAIN] = [5, 41, 255, 3]

/** The upstream resolver of a case, over UDP and TCP: it says what the case says, and NXDOMAIN of all other names. */
export class StubUpstream implements AsyncDisposable {
  readonly #answers: ReadonlyMap<string, StubAnswer>
  readonly #udp: Socket = createSocket('udp4')
  readonly #tcp: Server
  readonly #timers = new Set<NodeJS.Timeout>()

  private constructor(answers: readonly StubAnswer[]) {
    this.#answers = new Map(answers.map((answer) => [answer.name.key, answer]))
    this.#udp.on('message', (message, client) => {
      this.#answer(message, 'udp', (reply) => {
        // The asker may be gone: it had its answer from elsewhere.
        this.#udp.send(reply, client.port, client.address, () => {})
      })
    })
    this.#tcp = createServer((socket) => {
      let received: Buffer = Buffer.alloc(0)
      socket.on('error', () => socket.destroy())
      socket.on('data', (chunk) => {
        received = Buffer.concat([received, chunk])
        while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
          const end = 2 + received.readUInt16BE(0)
          this.#answer(received.subarray(2, end), 'tcp', (reply) => {
            const length = Buffer.alloc(2)
            length.writeUInt16BE(reply.length)
            socket.write(Buffer.concat([length, reply]))
          })
          received = received.subarray(end)
        }
      })
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
  }

  readonly #sockets = new Set<{ destroy(): void }>()

  static async open(answers: readonly StubAnswer[], at: { address: string; port: number }): Promise<StubUpstream> {
    const stub = new StubUpstream(answers)
    stub.#udp.bind(at.port, at.address)
    stub.#tcp.listen(at.port, at.address)
    await Promise.all([once(stub.#udp, 'listening'), once(stub.#tcp, 'listening')])
    return stub
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer)
    for (const socket of this.#sockets) socket.destroy()
    const closed = once(this.#tcp, 'close')
    this.#tcp.close()
    this.#udp.close()
    await closed
  }

  #answer(query: Buffer, transport: 'udp' | 'tcp', send: (reply: Buffer) => void): void {
    const { name, end } = readName(query, 12)
    const stub = this.#answers.get(name.key)
    const type = query.readUInt16BE(end)
    const records = stub?.answer.filter((record) => type === ANY || record.type === type || record.type === CNAME) ?? []
    const reply = encodeReply(query, { rcode: stub?.rcode ?? NXDOMAIN, records, questionEnd: end + 4 })
    const size = transport === 'tcp' ? 0xffff : udpSizeOf(query, end + 4)
    const truncated = transport === 'udp' && stub?.truncated === true
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      if (truncated || reply.length > size)
        send(encodeReply(query, { rcode: stub?.rcode ?? NXDOMAIN, records: [], questionEnd: end + 4, tc: true }))
      else send(reply)
    }, stub?.delay ?? 0)
    this.#timers.add(timer)
  }
}

function encodeReply(
  query: Buffer,
  options: { rcode: number; records: readonly ExpectedRecord[]; questionEnd: number; tc?: boolean },
): Buffer {
  const header = Buffer.from(query.subarray(0, 12))
  // QR, RD as asked, TC; RA.
  header[2] = 0x80 | ((query[2] ?? 0) & 0x01) | (options.tc ? 0x02 : 0)
  header[3] = 0x80 | (options.rcode & 0xf)
  header.writeUInt16BE(options.records.length, 6)
  header.writeUInt16BE(0, 8)
  const hasOpt = query.readUInt16BE(10) > 0
  header.writeUInt16BE(hasOpt ? 1 : 0, 10)
  const parts: Uint8Array[] = [header, query.subarray(12, options.questionEnd)]
  for (const { owner, type, class: recordClass, ttl, rdata } of options.records) {
    const fixed = Buffer.alloc(10)
    fixed.writeUInt16BE(type, 0)
    fixed.writeUInt16BE(recordClass, 2)
    // A case that does not care (`*`) still needs one.
    fixed.writeUInt32BE(ttl.max === 0xffff_ffff ? 30 : ttl.max, 4)
    fixed.writeUInt16BE(rdata.length, 8)
    parts.push(owner.wire, fixed, rdata)
  }
  if (hasOpt) parts.push(Buffer.from([0, 0, OPT, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]))
  return Buffer.concat(parts)
}

/** The size that the query's OPT record offers: the first additional record, as we and all others send it. */
function udpSizeOf(query: Buffer, at: number): number {
  if (query.readUInt16BE(10) === 0 || query.readUInt16BE(at + 1) !== OPT) return 512
  return Math.max(512, query.readUInt16BE(at + 3))
}
