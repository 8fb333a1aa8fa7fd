import type { Name, NameKey } from './name.ts'

/** Compression pointers have 14 bits (RFC 1035 section 4.1.4). */
const pointerReach = 0x4000

class MessageFull extends Error {}

/** Writes one message of at most `limit` octets, with names compressed against all names before them. */
export class MessageWriter {
  #buffer: Buffer
  #length = 0
  #limit: number
  readonly #offsets = new Map<NameKey, number>()
  /** Names added since the last mark, to be forgotten when what holds them is taken back. */
  #added: NameKey[] = []

  constructor(limit: number) {
    this.#limit = limit
    this.#buffer = Buffer.allocUnsafe(Math.min(limit, 1232))
  }

  /** Runs `write`; when the message would pass its limit, takes back all that it wrote and returns false. */
  tryWrite(write: () => void): boolean {
    const start = this.#length
    this.#added = []
    try {
      write()
      return true
    } catch (error) {
      if (!(error instanceof MessageFull)) throw error
      this.#length = start
      for (const key of this.#added) this.#offsets.delete(key)
      return false
    }
  }

  /** Raises the limit by `octets` that were held back. */
  allow(octets: number): void {
    this.#limit += octets
  }

  skip(octets: number): void {
    this.#room(octets)
    this.#length += octets
  }

  write16(value: number): void {
    this.#room(2)
    this.#length = this.#buffer.writeUInt16BE(value, this.#length)
  }

  write32(value: number): void {
    this.#room(4)
    this.#length = this.#buffer.writeUInt32BE(value >>> 0, this.#length)
  }

  writeBytes(bytes: Uint8Array): void {
    this.#room(bytes.length)
    this.#buffer.set(bytes, this.#length)
    this.#length += bytes.length
  }

  /** Keeps room for a 16-bit length, which {@link patchLength} fills in. */
  reserve16(): number {
    this.skip(2)
    return this.#length
  }

  patchLength(start: number): void {
    this.#buffer.writeUInt16BE(this.#length - start, start - 2)
  }

  /** Writes a name; what an earlier name ended with, whatever its case, becomes a pointer. */
  writeName(name: Name): void {
    let rest = name.key
    for (let at = 0; rest.length > 1;) {
      const known = this.#offsets.get(rest)
      if (known !== undefined) {
        this.write16(0xc000 | known)
        return
      }
      if (this.#length < pointerReach) {
        this.#offsets.set(rest, this.#length)
        this.#added.push(rest)
      }
      const size = rest.charCodeAt(0) + 1
      this.writeBytes(name.wire.subarray(at, at + size))
      at += size
      rest = rest.slice(size)
    }
    this.writeBytes(Uint8Array.of(0))
  }

  /** The message, with the six 16-bit words of its header. */
  finish(header: readonly number[]): Buffer {
    for (const [i, word] of header.entries()) this.#buffer.writeUInt16BE(word, i * 2)
    return this.#buffer.subarray(0, this.#length)
  }

  #room(octets: number): void {
    const needed = this.#length + octets
    if (needed > this.#limit) throw new MessageFull()
    if (needed <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(Math.max(needed, Math.min(this.#buffer.length * 4, 65_535)))
    this.#buffer.copy(larger, 0, 0, this.#length)
    this.#buffer = larger
  }
}
