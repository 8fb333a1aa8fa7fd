/** Sizes of blocks are multiples of this, so that freed ones fit others; larger ones of more. */
const unit = 16
/** Blocks larger than this are rounded up to an eighth of their size. */
const fineSizes = 256
const firstOctets = 64 * 1024
const defaultLimit = 512 * 1024 * 1024

/**
 * Blocks of shared memory that grows in place, up to a limit. Freed blocks are given out again for the same size. One thread
 * allocates; who only reads needs new views after the memory has grown.
 */
export class BlockStore {
  /** Growable. */
  readonly memory: SharedArrayBuffer
  bytes: Uint8Array
  words: Int32Array
  /** Octets that are in use, or wait to be given out again. */
  octets = unit
  /** First free block of each size; a free block's first word names the next one. */
  readonly #free = new Map<number, number>()
  #grown = true

  /** `limit`: octets at most. */
  constructor(limit = defaultLimit) {
    this.memory = new SharedArrayBuffer(Math.min(firstOctets, limit), { maxByteLength: limit })
    this.bytes = new Uint8Array(this.memory, 0, this.memory.byteLength)
    this.words = new Int32Array(this.memory, 0, this.memory.byteLength >> 2)
  }

  /** Where a block of at least `size` octets begins, a multiple of four and never 0; 0 when there is no more room. */
  allocate(size: number): number {
    const rounded = roundUp(size)
    const block = this.#free.get(rounded) ?? 0
    if (block > 0) {
      this.#free.set(rounded, this.words[block >> 2] ?? 0)
      return block
    }
    const end = this.octets + rounded
    if (end > this.memory.byteLength && !this.#grow(end)) return 0
    this.octets = end
    return end - rounded
  }

  /** Takes back a block that was allocated with this size. */
  free(block: number, size: number): void {
    const rounded = roundUp(size)
    this.words[block >> 2] = this.#free.get(rounded) ?? 0
    this.#free.set(rounded, block)
  }

  /** Whether the memory has grown since the last call. */
  takeGrown(): boolean {
    const grown = this.#grown
    this.#grown = false
    return grown
  }

  #grow(octets: number): boolean {
    const limit = this.memory.maxByteLength
    if (octets > limit) return false
    // The operating system gives pages only as they are written to, so a quarter more costs nothing.
    this.memory.grow(Math.min(limit, Math.ceil((octets * 1.25) / 65_536) * 65_536))
    this.bytes = new Uint8Array(this.memory, 0, this.memory.byteLength)
    this.words = new Int32Array(this.memory, 0, this.memory.byteLength >> 2)
    this.#grown = true
    return true
  }
}

function roundUp(size: number): number {
  if (size <= fineSizes) return Math.ceil(size / unit) * unit
  const step = 2 ** (Math.floor(Math.log2(size)) - 3)
  return Math.ceil(size / step) * step
}
