import {
  type AnswerMemory,
  answerOctets,
  blockOctets,
  controlOctets,
  controlWords,
  denialPointers,
  foldHash,
  hashPrime,
  nameKinds,
  slotWords,
  tableFlags,
} from './answer-memory.ts'

/** What {@link AnswerFinder.answer} returns instead of the length of an answer. */
export const verdicts = {
  /** Not for this table: whoever knows everything shall answer. */
  pass: 0,
  /** Must not be answered at all. */
  drop: -1,
} as const

const headerSize = 12
const maxNameSize = 255
const maxLabels = 128
/** RFC 1035 section 4.2.1, RFC 9715: what a UDP response may have without EDNS, and at most. */
const classicSize = 512
const largestSize = 1232
/** An OPT record without options. */
const optSize = 11
/** Bits of the two flag octets of a header. */
const bits = { qr: 0x80, opcode: 0x78, aa: 0x04, tc: 0x02, rd: 0x01, ra: 0x80, cd: 0x10 }
/** Types that are asked about a server or about all of a name, not about one of its sets: OPT, and TSIG to ANY. */
const isMetaType = (type: number): boolean => type === 41 || (type >= 250 && type <= 255)
/** How long a reader sleeps at a time while the table is being changed, in milliseconds. */
const changeWait = 5
const keepsLoadsInOrder = process.arch === 'x64'
/** More steps than a table that is at most 5/8 full ever needs: a reader that sees a table in the middle of a change must end. */
const maxProbes = 4096

const labelOf = (text: string): Uint8Array => Buffer.from(String.fromCharCode(text.length) + text, 'latin1')
const serviceLabel = labelOf('svc')
/** Below these names the authority section of a denial is compressed in other ways, or names are made up by rules. */
const otherLabels: readonly Uint8Array[] = ['pod', 'dns', 'hostmaster'].map(labelOf)

/**
 * Answers questions in place from the answers that another thread keeps in shared memory ({@link AnswerMemory}). What it
 * answers is to the octet what the general path answers, up to the order of records; whatever it does not know exactly, it passes on.
 * Nothing is allocated per question.
 */
export class AnswerFinder {
  /** Of the last question that was answered: its type, where its name ends, whether it asked for DNSSEC, and the answer's code. */
  type = 0
  nameEnd = 0
  dnssecOk = false
  rcode = 0
  readonly #memory: AnswerMemory
  readonly #bytes: Uint8Array
  readonly #control: Int32Array
  readonly #controlBytes: Uint8Array
  #layout = -1
  #slots: Int32Array = new Int32Array()
  #words: Int32Array = new Int32Array()
  #blocks: Uint8Array = new Uint8Array()
  /** The name of the question in lower case, and where its labels begin in it. */
  readonly #name = new Uint8Array(new ArrayBuffer(256))
  readonly #labels = new Uint8Array(new ArrayBuffer(256))
  #nameSize = 0
  #labelCount = 0
  #hash = 0
  #rotation = 0
  /** Of the question: octets that the client takes, 0 without EDNS. */
  #ednsSize = 0
  /** What an answer is written over: two octets of flags, and the OPT record. */
  readonly #asked = new Uint8Array(new ArrayBuffer(64))

  /** `bytes` holds the messages. */
  constructor(memory: AnswerMemory, bytes: Uint8Array) {
    this.#memory = memory
    this.#bytes = bytes
    this.#control = new Int32Array(memory.control)
    this.#controlBytes = new Uint8Array(memory.control)
  }

  /**
   * Answers the message of `length` octets at `start`: the answer takes its place, and its length is returned, or one of
   * {@link verdicts}. A message that is passed on is as it was.
   */
  answer(start: number, length: number): number {
    const understood = this.#read(start, length)
    if (understood !== 1) return understood
    // A change of the table makes what was read worthless: the question is looked up again, in the table as it is then.
    for (;;) {
      const version = Atomics.load(this.#control, controlWords.version)
      if ((version & 1) !== 0) {
        Atomics.wait(this.#control, controlWords.version, version, changeWait)
        continue
      }
      if (Atomics.load(this.#control, controlWords.layout) !== this.#layout) this.#openViews()
      const result = this.#find(start)
      if (this.#versionAfterReads() === version) return result
      if (result > 0) this.#restore(start)
    }
  }

  /**
   * The version, read after all that was read before. x86 keeps loads in order; elsewhere a load, even an atomic one, may overtake those before
   * it, and only a store may not: so the version is added nothing to (Boehm, "Can seqlocks get along with programming language memory models?").
   */
  #versionAfterReads(): number {
    if (keepsLoadsInOrder) return Atomics.load(this.#control, controlWords.version)
    return Atomics.add(this.#control, controlWords.version, 0)
  }

  /** Reads the question; 1 when it is one that may be answered here. */
  #read(start: number, length: number): number {
    const bytes = this.#bytes
    if (length < headerSize) return verdicts.drop
    const flags = bytes[start + 2]!
    if ((flags & bits.qr) !== 0) return verdicts.drop
    if ((flags & bits.opcode) !== 0) return verdicts.pass
    // One question, no other records but perhaps one additional.
    const extra = bytes[start + 11]!
    const counts =
      bytes[start + 4]! |
      (bytes[start + 5]! ^ 1) |
      bytes[start + 6]! |
      bytes[start + 7]! |
      bytes[start + 8]! |
      bytes[start + 9]! |
      bytes[start + 10]!
    if (counts !== 0 || extra > 1) return verdicts.pass
    const end = start + length
    const nameEnd = this.#readName(start + headerSize, end)
    if (nameEnd === 0 || nameEnd + 4 > end) return verdicts.pass
    const type = (bytes[nameEnd]! << 8) | bytes[nameEnd + 1]!
    // Class IN.
    if (bytes[nameEnd + 2] !== 0 || bytes[nameEnd + 3] !== 1 || isMetaType(type)) return verdicts.pass
    this.#ednsSize = 0
    this.dnssecOk = false
    if (extra === 1 && !this.#readOpt(nameEnd + 4, end)) return verdicts.pass
    this.#asked[0] = flags
    this.#asked[1] = bytes[start + 3]!
    this.type = type
    this.nameEnd = nameEnd
    return 1
  }

  /** Reads an uncompressed name, its labels and its hash; returns where it ends, or 0. */
  #readName(from: number, end: number): number {
    const bytes = this.#bytes
    const name = this.#name
    const labels = this.#labels
    let hash = this.#control[controlWords.seed]!
    let count = 0
    let at = from
    for (;;) {
      if (at >= end) return 0
      const size = bytes[at]!
      if (size === 0) break
      const next = at + size + 1
      // One octet is kept for the root.
      if (size > 63 || next >= end || next - from >= maxNameSize || count >= maxLabels) return 0
      labels[count++] = at - from
      name[at - from] = size
      hash = Math.imul(hash ^ size, hashPrime)
      for (let i = at + 1; i < next; i++) {
        const octet = bytes[i]!
        const lower = octet >= 0x41 && octet <= 0x5a ? octet | 0x20 : octet
        name[i - from] = lower
        hash = Math.imul(hash ^ lower, hashPrime)
      }
      at = next
    }
    name[at - from] = 0
    this.#hash = foldHash(hash)
    this.#nameSize = at - from + 1
    this.#labelCount = count
    return at + 1
  }

  /** Reads an OPT record of version 0 without options. */
  #readOpt(at: number, end: number): boolean {
    const bytes = this.#bytes
    if (at + optSize > end || bytes[at] !== 0 || bytes[at + 1] !== 0 || bytes[at + 2] !== 41) return false
    if (bytes[at + 6] !== 0 || bytes[at + 9] !== 0 || bytes[at + 10] !== 0) return false
    const size = (bytes[at + 3]! << 8) | bytes[at + 4]!
    this.#ednsSize = Math.min(Math.max(size, classicSize), largestSize)
    this.dnssecOk = (bytes[at + 7]! & 0x80) !== 0
    for (let i = 0; i < optSize; i++) this.#asked[2 + i] = bytes[at + i]!
    return true
  }

  /** Makes a message what it was before an answer was written over it. */
  #restore(start: number): void {
    const bytes = this.#bytes
    const hasOpt = this.#ednsSize > 0
    bytes[start + 2] = this.#asked[0]!
    bytes[start + 3] = this.#asked[1]!
    bytes[start + 7] = 0
    bytes[start + 9] = 0
    bytes[start + 11] = hasOpt ? 1 : 0
    if (hasOpt) for (let i = 0; i < optSize; i++) bytes[this.nameEnd + 4 + i] = this.#asked[2 + i]!
  }

  #find(start: number): number {
    const control = this.#control
    const flags = control[controlWords.flags]!
    if ((flags & tableFlags.passAll) !== 0) return verdicts.pass
    if (this.#ednsSize > 0 && (flags & tableFlags.passEdns) !== 0) return verdicts.pass
    const zoneSize = control[controlWords.zoneSize]!
    if (!this.#isInZone(zoneSize)) return verdicts.pass
    const block = this.#block(0, this.#hash)
    if (block > 0) return this.#answerKnown(start, block)
    const mayDeny = block === 0 && (flags & tableFlags.passDenials) === 0 && this.#isKnownToBeAbsent()
    return mayDeny ? this.#deny(start, 3) : verdicts.pass
  }

  #isInZone(zoneSize: number): boolean {
    const name = this.#name
    const zone = this.#controlBytes
    const first = this.#nameSize - zoneSize
    const above = this.#labelCount - this.#control[controlWords.zoneLabels]!
    if (first < 0 || above < 0 || (above > 0 && first !== this.#labels[above])) return false
    if (above === 0 && first !== 0) return false
    for (let i = 0; i < zoneSize; i++) if (name[first + i] !== zone[controlOctets.zone + i]) return false
    return true
  }

  /** The block of the name that begins at an octet of the asked name; 0: there is none, -1: nobody can tell. */
  #block(from: number, hash: number): number {
    const slots = this.#slots
    const words = this.#words
    const blocks = this.#blocks
    const name = this.#name
    const size = this.#nameSize - from
    const mask = this.#control[controlWords.mask]!
    for (let slot = hash & mask, left = maxProbes; left > 0; slot = (slot + 1) & mask, left--) {
      const at = slots[slot * slotWords + 1]
      if (at === undefined) return -1
      if (at === 0) return 0
      if (slots[slot * slotWords] !== hash || at < 0) continue
      if (words[(at + blockOctets.hash) >> 2] !== hash || blocks[at + blockOctets.nameSize] !== size) continue
      const key = at + blockOctets.head + blocks[at + blockOctets.answers]! * answerOctets.end
      let i = 0
      while (i < size && blocks[key + i] === name[from + i]) i++
      if (i === size) return at
    }
    return -1
  }

  /** Whether a name of the zone that has no block does not exist: all that exists has one, but for what is below an open one. */
  #isKnownToBeAbsent(): boolean {
    const own = this.#labelCount - this.#control[controlWords.zoneLabels]!
    const last = this.#labels[own - 1]!
    if (!this.#hasLabel(last, serviceLabel)) return !otherLabels.some((label) => this.#hasLabel(last, label))
    if (own <= 3) return true
    const from = this.#labels[own - 3]!
    const service = this.#block(from, this.#hashFrom(from))
    if (service <= 0) return service === 0
    if (this.#blocks[service + blockOctets.isClosed] !== 1) return false
    // `http.tcp.web` stands for `_http._tcp.web`, as in CoreDNS.
    return own !== 5 || this.#name[this.#labels[0]! + 1] === 0x5f || this.#name[this.#labels[1]! + 1] === 0x5f
  }

  #hasLabel(at: number, label: Uint8Array): boolean {
    for (let i = 0; i < label.length; i++) if (this.#name[at + i] !== label[i]) return false
    return true
  }

  #hashFrom(from: number): number {
    let hash = this.#control[controlWords.seed]!
    const end = this.#nameSize - 1
    for (let i = from; i < end; i++) hash = Math.imul(hash ^ this.#name[i]!, hashPrime)
    return foldHash(hash)
  }

  #answerKnown(start: number, block: number): number {
    const blocks = this.#blocks
    const kind = blocks[block + blockOctets.kind]!
    if (kind === nameKinds.unknown) return verdicts.pass
    const answers = blocks[block + blockOctets.answers]!
    for (let i = 0; i < answers; i++) {
      const at = block + blockOctets.head + i * answerOctets.end
      if (this.#read16(at + answerOctets.type) === this.type) return this.#answerWith(start, block, at)
    }
    if (kind === nameKinds.partlyKnown) return verdicts.pass
    if (kind === nameKinds.known) return this.#deny(start, 0)
    const mayDeny = (this.#control[controlWords.flags]! & tableFlags.passDenials) === 0
    return mayDeny ? this.#deny(start, 3) : verdicts.pass
  }

  /** Writes the records of an answer of a block, or says that they are too many (TC). */
  #answerWith(start: number, block: number, answer: number): number {
    const blocks = this.#blocks
    const answerSize = this.#read16(answer + answerOctets.answerSize)
    if (answerSize === 0) return verdicts.pass
    const size = this.#read16(answer + answerOctets.size)
    const question = this.nameEnd + 4 - start
    const edns = this.#ednsSize > 0 ? optSize : 0
    const room = (this.#ednsSize > 0 ? this.#ednsSize : classicSize) - question - edns
    if (size === 0 || answerSize > room) {
      this.#writeHeader(start, 0, bits.tc)
      return this.#finish(start, question)
    }
    // Which of the additional records fit is for the general path to say.
    if (size > room) return verdicts.pass
    const records = blocks[answer + answerOctets.records]!
    const from = block + this.#read16(answer + answerOctets.start)
    const into = this.nameEnd + 4
    let first = 0
    if (blocks[answer + answerOctets.rotates] === 1) {
      first = this.#recordStart(from, this.#rotation++ % records)
      if (first >= answerSize) first = 0
    }
    this.#copy(from + first, into, answerSize - first)
    this.#copy(from, into + answerSize - first, first)
    this.#copy(from + answerSize, into + answerSize, size - answerSize)
    this.#writeHeader(start, 0, 0)
    this.#bytes[start + 7] = records
    this.#bytes[start + 11] = blocks[answer + answerOctets.additionals]!
    return this.#finish(start, question + size)
  }

  /** Where record number `index` begins; all owners are pointers of two octets. */
  #recordStart(from: number, index: number): number {
    let at = 0
    for (let i = 0; i < index; i++) at += 12 + this.#read16(from + at + 10)
    return at
  }

  /** NODATA or NXDOMAIN, with the SOA of the zone. */
  #deny(start: number, rcode: number): number {
    const bytes = this.#bytes
    const control = this.#control
    const into = this.nameEnd + 4
    const size = control[controlWords.denialSize]!
    for (let i = 0; i < size; i++) bytes[into + i] = this.#controlBytes[controlOctets.denial + i]!
    const zone = headerSize + this.#nameSize - control[controlWords.zoneSize]!
    for (const at of denialPointers) {
      bytes[into + at] = 0xc0 | (zone >> 8)
      bytes[into + at + 1] = zone & 0xff
    }
    this.#writeHeader(start, rcode, 0)
    bytes[start + 9] = 1
    return this.#finish(start, into - start + size)
  }

  /** The id, RD and CD are as they were; the counts are those of a question alone. */
  #writeHeader(start: number, rcode: number, truncated: number): void {
    const bytes = this.#bytes
    bytes[start + 2] = bits.qr | bits.aa | truncated | (bytes[start + 2]! & bits.rd)
    bytes[start + 3] = bits.ra | (bytes[start + 3]! & bits.cd) | rcode
    bytes[start + 7] = 0
    bytes[start + 9] = 0
    bytes[start + 11] = 0
    this.rcode = rcode
  }

  /** Writes our OPT record after `length` octets to who speaks EDNS, and returns how long the answer is. */
  #finish(start: number, length: number): number {
    if (this.#ednsSize === 0) return length
    const bytes = this.#bytes
    const at = start + length
    bytes[at] = 0
    bytes[at + 1] = 0
    bytes[at + 2] = 41
    bytes[at + 3] = largestSize >> 8
    bytes[at + 4] = largestSize & 0xff
    bytes[at + 5] = 0
    bytes[at + 6] = 0
    bytes[at + 7] = this.dnssecOk ? 0x80 : 0
    bytes[at + 8] = 0
    bytes[at + 9] = 0
    bytes[at + 10] = 0
    bytes[start + 11] = bytes[start + 11]! + 1
    return length + optSize
  }

  #copy(from: number, into: number, size: number): void {
    const bytes = this.#bytes
    const blocks = this.#blocks
    for (let i = 0; i < size; i++) bytes[into + i] = blocks[from + i]!
  }

  /** 16 bits of a block, the upper ones first. */
  #read16(at: number): number {
    return (this.#blocks[at]! << 8) | this.#blocks[at + 1]!
  }

  /** Memory that was enlarged is seen through new views only: views that follow it by themselves are ten times slower. */
  #openViews(): void {
    const { slots, blocks } = this.#memory
    this.#layout = Atomics.load(this.#control, controlWords.layout)
    this.#slots = new Int32Array(slots, 0, slots.byteLength >> 2)
    this.#words = new Int32Array(blocks, 0, blocks.byteLength >> 2)
    this.#blocks = new Uint8Array(blocks, 0, blocks.byteLength)
  }
}
