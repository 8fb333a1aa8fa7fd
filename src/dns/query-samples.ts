import { ipFromBytes } from '../net/ip-address.ts'
import { type Name, readName } from '../dns-message/name.ts'
import { answerers } from './dns-counts.ts'
import type { SeenQuery } from './seen-query.ts'

/** Octets of a sample: type, code, answerer, flags, length of the name, seconds, address, name. */
const sampleSize = 288
const offsets = { type: 0, rcode: 2, answerer: 4, flags: 5, nameLength: 6, seconds: 8, address: 16, name: 32 } as const
const flagBits = { tcp: 1, ipv6: 2 } as const
/** How many samples were written, ever; and of how many queries one is wanted, 0 for none. */
const header = { written: 0, every: 1, octets: 8 } as const

/** What {@link SampleRing.write} takes besides the name. */
export interface SampleFields {
  readonly type: number
  readonly rcode: number
  /** The place in `answerers`. */
  readonly answerer: number
  readonly tcp: boolean
  readonly seconds: number
  /** 4 or 16 octets. */
  readonly address: Uint8Array
}

/**
 * Samples of queries that one thread writes and another reads, in shared memory. The writer never waits: who reads too late
 * loses the oldest, and is told how many.
 */
export class SampleRing {
  readonly memory: SharedArrayBuffer
  readonly #header: Int32Array
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #places: number
  #left = -1
  #read = 0

  /** In the `memory` of another thread's ring, or in new memory for so many samples. */
  constructor(of: SharedArrayBuffer | { readonly samples: number }) {
    this.memory = of instanceof SharedArrayBuffer ? of : new SharedArrayBuffer(header.octets + of.samples * sampleSize)
    this.#header = new Int32Array(this.memory, 0, header.octets / 4)
    this.#bytes = new Uint8Array(this.memory, header.octets)
    this.#view = new DataView(this.memory, header.octets)
    this.#places = this.#bytes.length / sampleSize
  }

  /** Of how many queries one is wanted: 1 means all, 0 none. Set by the reader; counts for the writer at once. */
  get every(): number {
    return Atomics.load(this.#header, header.every)
  }

  set every(every: number) {
    Atomics.store(this.#header, header.every, every)
  }

  /** The writer asks this at each query. */
  isWanted(): boolean {
    const every = this.#header[header.every] ?? 0
    if (every === 0) return false
    // From a random start, or the first of a few queries would count for many.
    if (this.#left < 0) this.#left = Math.ceil(Math.random() * every)
    if (--this.#left > 0) return false
    this.#left = every
    return true
  }

  /** Writes a sample whose name stands uncompressed in `message` from `start` (its first length octet) to `end`. */
  write(message: Uint8Array, { start, end }: { readonly start: number; readonly end: number }, fields: SampleFields) {
    const written = Atomics.load(this.#header, header.written)
    const at = ((written >>> 0) % this.#places) * sampleSize
    const view = this.#view
    view.setUint16(at + offsets.type, fields.type)
    view.setUint16(at + offsets.rcode, fields.rcode)
    const ipv6 = fields.address.length === 16
    view.setUint8(at + offsets.answerer, fields.answerer)
    view.setUint8(at + offsets.flags, (fields.tcp ? flagBits.tcp : 0) | (ipv6 ? flagBits.ipv6 : 0))
    view.setUint16(at + offsets.nameLength, end - start)
    view.setFloat32(at + offsets.seconds, fields.seconds)
    this.#bytes.set(fields.address, at + offsets.address)
    this.#bytes.set(message.subarray(start, end), at + offsets.name)
    Atomics.store(this.#header, header.written, (written + 1) | 0)
  }

  /** Takes out what was written since the last call; `lost` were overwritten before. */
  drain(): { readonly samples: readonly SeenQuery[]; readonly lost: number } {
    const written = Atomics.load(this.#header, header.written) >>> 0
    const waiting = (written - this.#read) >>> 0
    const samples: SeenQuery[] = []
    // One place is left out: it is the one that may be written to just now.
    const readable = Math.min(waiting, this.#places - 1)
    for (let i = written - readable; i < written; i++) {
      const sample = this.#sampleAt((((i >>> 0) % this.#places) * sampleSize) >>> 0)
      if (sample) samples.push(sample)
    }
    // What the writer has overtaken meanwhile may be torn: the oldest ones go.
    const overtaken = Math.max(0, ((Atomics.load(this.#header, header.written) - written) | 0) - 1)
    const torn = Math.min(samples.length, Math.max(0, overtaken - (this.#places - 1 - readable)))
    this.#read = written
    return { samples: samples.slice(torn), lost: waiting - readable + torn }
  }

  #sampleAt(at: number): SeenQuery | undefined {
    const view = this.#view
    const flags = view.getUint8(at + offsets.flags)
    const length = Math.min(view.getUint16(at + offsets.nameLength), sampleSize - offsets.name)
    const name = nameOf(this.#bytes.slice(at + offsets.name, at + offsets.name + length))
    if (!name) return undefined
    const address = this.#bytes.slice(at + offsets.address, at + offsets.address + (flags & flagBits.ipv6 ? 16 : 4))
    return {
      client: ipFromBytes(address),
      name,
      type: view.getUint16(at + offsets.type),
      rcode: view.getUint16(at + offsets.rcode),
      from: answerers[view.getUint8(at + offsets.answerer)] ?? '',
      tcp: (flags & flagBits.tcp) !== 0,
      seconds: view.getFloat32(at + offsets.seconds),
    }
  }
}

/** The name, or undefined when the sample is torn. */
function nameOf(wire: Uint8Array): Name | undefined {
  try {
    const { name, end } = readName(wire, 0)
    return end === wire.length ? name : undefined
  } catch {
    // Half of one sample and half of another: not worth a word, it was overtaken.
    return undefined
  }
}
