import {
  type AnswerMemory,
  answerOctets,
  blockOctets,
  controlOctets,
  controlWords,
  deletedSlot,
  denialPointers,
  foldHash,
  hashPrime,
  nameKinds,
  slotWords,
  tableFlags,
} from './answer-memory.ts'
import { BlockStore } from './block-store.ts'

/** All sections of the answer to one question, as they follow the question in the message. */
export interface FinishedAnswer {
  readonly type: number
  readonly records: Uint8Array
  /** Octets of the answer section; 0: it is not finished, so somebody else answers. */
  readonly answerSize: number
  /** Records of the answer section, and of the additional section; the authority section is empty. */
  readonly answers: number
  readonly additionals: number
  /** The records of the answer section can stand in any order: each is the same wherever it stands. */
  readonly rotates: boolean
}

/** What is known about a name. */
export interface FinishedName {
  /** In wire format and lower case, one UTF-16 unit per octet. */
  readonly key: string
  readonly kind: keyof typeof nameKinds
  /** Whether all names below it are known, so that others below do not exist. */
  readonly isClosed: boolean
  readonly answers: readonly FinishedAnswer[]
}

/** How many slots there are in the beginning; a power of two. */
const firstSlots = 1024
const largestSlots = 1 << 25

/**
 * The writing side of {@link AnswerMemory}: names with their finished answers, in groups that are replaced at once. One thread
 * writes; readers see either all of a change or nothing of it, because they look again when the version has moved on (a sequence lock), and
 * they never keep what they read. A change costs what is changed.
 */
export class AnswerTable {
  readonly memory: AnswerMemory
  /** No more memory: the table is empty and nothing is answered from it. */
  isFull = false
  readonly #control: Int32Array
  readonly #controlBytes: Uint8Array
  readonly #store: BlockStore
  #slots: Int32Array
  /** Slots that are not free: with a block, or deleted. */
  #used = 0
  #names = 0
  #flags = 0
  #depth = 0

  /** `zone` is the key of the zone that names belong to; `seed` makes collisions of hashes hard to plan. */
  constructor({ zone, seed, limit }: { readonly zone: string; readonly seed: number; readonly limit?: number }) {
    const slots = new SharedArrayBuffer(firstSlots * slotWords * 4, { maxByteLength: largestSlots * slotWords * 4 })
    this.#store = new BlockStore(limit)
    this.memory = { control: new SharedArrayBuffer(controlOctets.end), slots, blocks: this.#store.memory }
    this.#control = new Int32Array(this.memory.control)
    this.#controlBytes = new Uint8Array(this.memory.control)
    this.#slots = new Int32Array(slots, 0, firstSlots * slotWords)
    this.#control[controlWords.mask] = firstSlots - 1
    this.#control[controlWords.seed] = seed | 0
    this.#control[controlWords.zoneSize] = zone.length
    this.#control[controlWords.zoneLabels] = countLabels(zone)
    for (let i = 0; i < zone.length; i++) this.#controlBytes[controlOctets.zone + i] = zone.charCodeAt(i)
  }

  /** How many names there are. */
  get names(): number {
    return this.#names
  }

  /** Octets of memory that are in use. */
  get octets(): number {
    return this.#store.octets + this.#slots.byteLength
  }

  /** Lets `edit` change the table; readers see all of it or nothing. They wait meanwhile, so it should be short. */
  change(edit: () => void): void {
    if (this.#depth++ === 0) Atomics.add(this.#control, controlWords.version, 1)
    try {
      edit()
    } finally {
      if (--this.#depth === 0) {
        Atomics.add(this.#control, controlWords.version, 1)
        Atomics.notify(this.#control, controlWords.version)
      }
    }
  }

  setFlag(flag: (typeof tableFlags)[keyof typeof tableFlags], on: boolean): void {
    const flags = on ? this.#flags | flag : this.#flags & ~flag
    if (flags === this.#flags) return
    this.#flags = flags
    this.change(() => (this.#control[controlWords.flags] = flags))
  }

  /**
   * The authority section of a denial of a name right below the zone, one SOA record with its MNAME and RNAME below the zone. Throws
   * when its compression pointers are not where readers will put others.
   */
  setDenial(authority: Uint8Array): void {
    const pointers = new Set(denialPointers.map((at) => ((authority[at] ?? 0) << 8) | (authority[at + 1] ?? 0)))
    const [pointer = 0] = pointers
    if (pointers.size !== 1 || (pointer & 0xc000) !== 0xc000) throw new Error('the SOA record is not as it should be')
    this.change(() => {
      this.#controlBytes.set(authority, controlOctets.denial)
      this.#control[controlWords.denialSize] = authority.length
    })
  }

  /** What a name is; undefined when the table does not have it. */
  kindOf(key: string): keyof typeof nameKinds | undefined {
    const slot = this.#slotOf(key, this.#hash(key))
    const block = slot < 0 ? 0 : (this.#slots[slot + 1] ?? 0)
    const kind = this.#store.bytes[block + blockOctets.kind]
    return block === 0 ? undefined : kindNames.find((name) => nameKinds[name] === kind)
  }

  /** Puts a group of names in the place of the group that the first one leads. Outside of {@link change}, it is one. */
  replace(names: readonly [FinishedName, ...FinishedName[]]): void {
    this.change(() => {
      this.#removeGroup(names[0].key)
      let next = 0
      // The last first, so that each block can name the next one.
      for (const name of names.toReversed()) next = this.#insert(name, next)
    })
  }

  /** Removes the group that a name leads, if there is one. */
  remove(key: string): void {
    this.change(() => this.#removeGroup(key))
  }

  #removeGroup(key: string): void {
    const { words } = this.#store
    const slot = this.#slotOf(key, this.#hash(key))
    if (slot < 0) return
    let block = this.#slots[slot + 1] ?? 0
    while (block > 0) {
      const next = words[(block + blockOctets.next) >> 2] ?? 0
      this.#forget(block)
      this.#store.free(block, this.#sizeOf(block))
      block = next
    }
  }

  #insert(name: FinishedName, next: number): number {
    if (this.isFull) return 0
    const size = sizeOfName(name)
    const block = this.#store.allocate(size)
    if (block === 0 || (this.#used + 1) * 8 > (this.#slots.length / slotWords) * 5) this.#makeRoom(block === 0)
    if (this.isFull) return 0
    this.#noteLayout()
    const hash = this.#hash(name.key)
    this.#write(block, name, { hash, next })
    const slots = this.#slots
    const mask = slots.length / slotWords - 1
    let slot = hash & mask
    while ((slots[slot * slotWords + 1] ?? 0) > 0) slot = (slot + 1) & mask
    if (slots[slot * slotWords + 1] === 0) this.#used++
    slots[slot * slotWords] = hash
    slots[slot * slotWords + 1] = block
    this.#names++
    return block
  }

  #write(block: number, name: FinishedName, { hash, next }: { readonly hash: number; readonly next: number }): void {
    const { words, bytes } = this.#store
    words[(block + blockOctets.hash) >> 2] = hash
    words[(block + blockOctets.next) >> 2] = next
    bytes[block + blockOctets.nameSize] = name.key.length
    bytes[block + blockOctets.kind] = nameKinds[name.kind]
    bytes[block + blockOctets.answers] = name.answers.length
    bytes[block + blockOctets.isClosed] = name.isClosed ? 1 : 0
    const key = blockOctets.head + name.answers.length * answerOctets.end
    for (let i = 0; i < name.key.length; i++) bytes[block + key + i] = name.key.charCodeAt(i)
    let records = key + name.key.length
    for (const [i, answer] of name.answers.entries()) {
      const at = block + blockOctets.head + i * answerOctets.end
      write16(bytes, at + answerOctets.type, answer.type)
      bytes[at + answerOctets.records] = answer.answers
      bytes[at + answerOctets.additionals] = answer.additionals
      bytes[at + answerOctets.rotates] = answer.rotates ? 1 : 0
      write16(bytes, at + answerOctets.start, records)
      write16(bytes, at + answerOctets.answerSize, Math.min(answer.answerSize, 0xffff))
      write16(bytes, at + answerOctets.size, statedSize(answer))
      const kept = keptSize(statedSize(answer))
      if (kept > 0) bytes.set(answer.records, block + records)
      records += kept
    }
  }

  #sizeOf(block: number): number {
    const { bytes } = this.#store
    const answers = bytes[block + blockOctets.answers] ?? 0
    let size = blockOctets.head + answers * answerOctets.end + (bytes[block + blockOctets.nameSize] ?? 0)
    for (let i = 0; i < answers; i++) {
      const at = block + blockOctets.head + i * answerOctets.end + answerOctets.size
      size += keptSize(((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0))
    }
    return size
  }

  /** Takes a block's slot away. */
  #forget(block: number): void {
    const slots = this.#slots
    const mask = slots.length / slotWords - 1
    let slot = (this.#store.words[(block + blockOctets.hash) >> 2] ?? 0) & mask
    while (slots[slot * slotWords + 1] !== block) {
      if (slots[slot * slotWords + 1] === 0) return
      slot = (slot + 1) & mask
    }
    slots[slot * slotWords + 1] = deletedSlot
    this.#names--
  }

  /** The word of the slot of a name; -1 when there is none. */
  #slotOf(key: string, hash: number): number {
    const slots = this.#slots
    const { bytes, words } = this.#store
    const mask = slots.length / slotWords - 1
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const block = slots[slot * slotWords + 1] ?? 0
      if (block === 0) return -1
      if (block < 0 || words[(block + blockOctets.hash) >> 2] !== hash) continue
      if (bytes[block + blockOctets.nameSize] !== key.length) continue
      const at = block + blockOctets.head + (bytes[block + blockOctets.answers] ?? 0) * answerOctets.end
      let i = 0
      while (i < key.length && bytes[at + i] === key.charCodeAt(i)) i++
      if (i === key.length) return slot * slotWords
    }
  }

  /** Makes a table of slots that is half as full as it may be, without the deleted ones; or gives up. */
  #makeRoom(outOfMemory: boolean): void {
    let count = firstSlots
    while (count * 5 < (this.#names + 1) * 16) count *= 2
    if (outOfMemory || count > largestSlots) {
      this.isFull = true
      this.#flags |= tableFlags.passAll
      this.#control[controlWords.flags] = this.#flags
      this.#slots.fill(0)
      this.#names = this.#used = 0
      return
    }
    const { slots } = this.memory
    const blocks = this.#slots.filter((block, i) => i % slotWords === 1 && block > 0)
    if (slots.byteLength < count * slotWords * 4) slots.grow(count * slotWords * 4)
    this.#slots = new Int32Array(slots, 0, count * slotWords)
    this.#slots.fill(0)
    for (const block of blocks) {
      const hash = this.#store.words[(block + blockOctets.hash) >> 2] ?? 0
      let slot = hash & (count - 1)
      while (this.#slots[slot * slotWords + 1] !== 0) slot = (slot + 1) & (count - 1)
      this.#slots[slot * slotWords] = hash
      this.#slots[slot * slotWords + 1] = block
    }
    this.#used = blocks.length
    this.#control[controlWords.mask] = count - 1
    Atomics.add(this.#control, controlWords.layout, 1)
  }

  /** Readers need new views when the store has grown. */
  #noteLayout(): void {
    if (!this.#store.takeGrown()) return
    Atomics.add(this.#control, controlWords.layout, 1)
  }

  #hash(key: string): number {
    let hash = this.#control[controlWords.seed] ?? 0
    // Without the root label, as readers do.
    for (let i = 0; i < key.length - 1; i++) hash = Math.imul(hash ^ key.charCodeAt(i), hashPrime)
    return foldHash(hash)
  }
}

const kindNames = Object.keys(nameKinds) as (keyof typeof nameKinds)[]
/** What fits into a UDP message beside the shortest question. */
const largestRecords = 1232 - 12 - 5

/** What a block says of the size of an answer: 0 when not even its answer section fits into a message. */
function statedSize({ records, answerSize }: FinishedAnswer): number {
  return answerSize > largestRecords ? 0 : Math.min(records.length, 0xffff)
}

/** Octets of an answer that are kept: when additional records do not fit, who knows everything says which. */
function keptSize(stated: number): number {
  return stated > largestRecords ? 0 : stated
}

function sizeOfName({ key, answers }: FinishedName): number {
  const records = answers.reduce((sum, answer) => sum + keptSize(statedSize(answer)), 0)
  return blockOctets.head + answers.length * answerOctets.end + key.length + records
}

function write16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8
  bytes[at + 1] = value & 0xff
}

function countLabels(key: string): number {
  let count = 0
  for (let at = 0; key.charCodeAt(at) > 0; at += key.charCodeAt(at) + 1) count++
  return count
}
