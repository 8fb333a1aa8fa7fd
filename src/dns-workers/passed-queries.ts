import type { DatagramBatch } from '../linux/datagram-batch.ts'
import { packetInfoSize, socketAddressSize, type DatagramPeer } from '../linux/udp-socket.ts'

/** A query that a worker could not answer itself. All bytes are copies. */
export interface PassedQuery {
  readonly message: Buffer
  readonly peer: DatagramPeer
  /** Which one of the worker's sockets it came to. */
  readonly socket: number
}

/** Words at the beginning: octets written and read so far (modulo 2^32), whether the reader was called, and queries that had no room. */
const header = { written: 0, read: 1, called: 2, shed: 3, octets: 64 } as const
/** A record's head: its size, socket and octets of address, octets of control data and of the message; 16 bits each but the first. */
const headSize = 16
/** Instead of a size: the rest up to the end is empty. */
const wrap = 0xffff_ffff

/**
 * Queries on their way from a worker to the thread that knows everything, in shared memory of a fixed size. The worker never waits:
 * what finds no room is dropped and counted, so that names outside of the cluster cannot take memory, or time from those of the cluster.
 */
export class PassedQueries {
  readonly memory: SharedArrayBuffer
  readonly #header: Int32Array
  readonly #bytes: Uint8Array
  readonly #view: DataView

  /** In the `memory` of another thread, or in new memory of so many octets (a power of two). */
  constructor(of: SharedArrayBuffer | { readonly octets: number }) {
    this.memory = of instanceof SharedArrayBuffer ? of : new SharedArrayBuffer(header.octets + of.octets)
    this.#header = new Int32Array(this.memory, 0, header.octets / 4)
    this.#bytes = new Uint8Array(this.memory, header.octets)
    this.#view = new DataView(this.memory, header.octets)
  }

  /** Queries that were dropped because there was no room. */
  get shed(): number {
    return Atomics.load(this.#header, header.shed) >>> 0
  }

  /** The worker writes datagram i of a batch. True: the reader must be called, since nobody has done it yet. */
  write(batch: DatagramBatch, i: number, { socket, length }: { readonly socket: number; readonly length: number }) {
    const addressSize = batch.addressLength(i)
    const controlSize = batch.controlLength(i)
    const size = (headSize + addressSize + controlSize + length + 3) & ~3
    const at = this.#place(size)
    if (at < 0) {
      Atomics.add(this.#header, header.shed, 1)
      return false
    }
    const view = this.#view
    view.setUint32(at, size)
    view.setUint16(at + 4, socket)
    view.setUint16(at + 6, addressSize)
    view.setUint16(at + 8, controlSize)
    view.setUint16(at + 10, length)
    let into = at + headSize
    into = this.#copy(batch.addresses, i * socketAddressSize, { into, size: addressSize })
    into = this.#copy(batch.controls, i * packetInfoSize, { into, size: controlSize })
    this.#copy(batch.bytes, batch.start(i), { into, size: length })
    Atomics.add(this.#header, header.written, size)
    return Atomics.exchange(this.#header, header.called, 1) === 0
  }

  /** The reader says that it was called, before it reads. */
  heard(): void {
    Atomics.store(this.#header, header.called, 0)
  }

  /** The reader takes the next query. */
  read(): PassedQuery | undefined {
    const capacity = this.#bytes.length
    for (;;) {
      const read = Atomics.load(this.#header, header.read) >>> 0
      if (read === Atomics.load(this.#header, header.written) >>> 0) return undefined
      const at = read % capacity
      const size = this.#view.getUint32(at)
      if (size === wrap) {
        Atomics.add(this.#header, header.read, capacity - at)
        continue
      }
      const query = this.#queryAt(at)
      Atomics.add(this.#header, header.read, size)
      return query
    }
  }

  #queryAt(at: number): PassedQuery {
    const view = this.#view
    const address = at + headSize
    const control = address + view.getUint16(at + 6)
    const message = control + view.getUint16(at + 8)
    return {
      socket: view.getUint16(at + 4),
      peer: { address: this.#bytes.slice(address, control), control: this.#bytes.slice(control, message) },
      message: Buffer.from(this.#bytes.subarray(message, message + view.getUint16(at + 10))),
    }
  }

  /** Where a record of this size may be written; -1: nowhere now. */
  #place(size: number): number {
    const capacity = this.#bytes.length
    const written = Atomics.load(this.#header, header.written) >>> 0
    const free = capacity - ((written - (Atomics.load(this.#header, header.read) >>> 0)) >>> 0)
    const at = written % capacity
    const toEnd = capacity - at
    if (toEnd >= size) return free >= size ? at : -1
    if (free < toEnd + size) return -1
    this.#view.setUint32(at, wrap)
    Atomics.add(this.#header, header.written, toEnd)
    return 0
  }

  #copy(from: Uint8Array, start: number, { into, size }: { readonly into: number; readonly size: number }): number {
    for (let i = 0; i < size; i++) this.#bytes[into + i] = from[start + i] ?? 0
    return into + size
  }
}
