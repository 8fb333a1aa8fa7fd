/**
 * Writes netlink attributes (include/uapi/linux/netlink.h, struct nlattr) and message headers into one growing buffer.
 * The one place that knows lengths and padding. Integers are host order (little endian: every platform we ship for),
 * the `be` ones network order.
 */
export class AttributeWriter {
  #buffer: Buffer
  #length = 0

  constructor(capacity = 512) {
    this.#buffer = Buffer.allocUnsafe(capacity)
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length
  }

  /** What was written: a view, valid until the next write. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  /** Forgets what was written from `length` on. */
  truncate(length: number): void {
    this.#length = length
  }

  /** Opens a message: a header whose length {@link endMessage} fills in. Returns what endMessage needs. */
  beginMessage(type: number, flags: number, seq: number): number {
    const at = this.#reserve(16)
    const view = this.#buffer
    view.writeUInt32LE(0, at)
    view.writeUInt16LE(type, at + 4)
    view.writeUInt16LE(flags, at + 6)
    view.writeUInt32LE(seq, at + 8)
    view.writeUInt32LE(0, at + 12)
    return at
  }

  endMessage(at: number): void {
    this.#buffer.writeUInt32LE(this.#length - at, at)
  }

  /** Opens a nested attribute. Returns what {@link endNest} needs. */
  beginNest(id: number): number {
    const at = this.#reserve(4)
    this.#buffer.writeUInt16LE(id | NLA_F_NESTED, at + 2)
    return at
  }

  /** Closes a nested attribute. Throws RangeError over 65,535 bytes, which the 16-bit length cannot say. */
  endNest(at: number): void {
    const length = this.#length - at
    if (length > 0xffff) throw new RangeError(`a netlink attribute holds at most 65535 bytes, not ${length}`)
    this.#buffer.writeUInt16LE(length, at)
  }

  u8(id: number, value: number): void {
    const at = this.#header(id, 1)
    this.#buffer[at] = value
  }

  u16(id: number, value: number): void {
    const at = this.#header(id, 2)
    this.#buffer.writeUInt16LE(value, at)
  }

  u32(id: number, value: number): void {
    const at = this.#header(id, 4)
    this.#buffer.writeUInt32LE(value, at)
  }

  s32(id: number, value: number): void {
    const at = this.#header(id, 4)
    this.#buffer.writeInt32LE(value, at)
  }

  u64(id: number, value: bigint): void {
    const at = this.#header(id, 8)
    this.#buffer.writeBigUInt64LE(value, at)
  }

  u16be(id: number, value: number): void {
    const at = this.#header(id, 2)
    this.#buffer.writeUInt16BE(value, at)
  }

  u32be(id: number, value: number): void {
    const at = this.#header(id, 4)
    this.#buffer.writeUInt32BE(value, at)
  }

  u64be(id: number, value: bigint): void {
    const at = this.#header(id, 8)
    this.#buffer.writeBigUInt64BE(value, at)
  }

  flag(id: number): void {
    this.#header(id, 0)
  }

  bytesAttribute(id: number, value: Uint8Array): void {
    const at = this.#header(id, value.length)
    this.#buffer.set(value, at)
  }

  /** A string with its terminating NUL. */
  string(id: number, value: string): void {
    const length = Buffer.byteLength(value)
    const at = this.#header(id, length + 1)
    this.#buffer.write(value, at, 'utf8')
    this.#buffer[at + length] = 0
  }

  /** Bytes that are no attribute: the fixed header of a family (struct ifinfomsg, nfgenmsg, ...). Padded to 4. */
  raw(value: Uint8Array): void {
    const at = this.#reserve(value.length)
    this.#buffer.set(value, at)
    this.#pad()
  }

  /** An attribute of `length` payload bytes; returns the payload's offset in {@link bytes}, zero-filled padding included. */
  #header(id: number, length: number): number {
    const at = this.#reserve(4 + length)
    this.#buffer.writeUInt16LE(4 + length, at)
    this.#buffer.writeUInt16LE(id, at + 2)
    this.#pad()
    return at + 4
  }

  #pad(): void {
    while (this.#length & 3) {
      const at = this.#reserve(1)
      this.#buffer[at] = 0
    }
  }

  /** May replace the buffer: take `#buffer` after, never before (`this.#buffer.write(value, this.#reserve(n))` does before). */
  #reserve(count: number): number {
    const at = this.#length
    if (at + count > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, at + count + 64))
      this.#buffer.copy(larger, 0, 0, at)
      this.#buffer = larger
    }
    this.#length = at + count
    return at
  }
}

/** include/uapi/linux/netlink.h */
export const NLA_F_NESTED = 0x8000
export const NLA_TYPE_MASK = 0x3fff
