/**
 * The layout of the memory in which one thread keeps finished answers and others find them. Numbers are 32-bit words unless
 * it is said otherwise; `answer-table.ts` writes, `answer-finder.ts` reads.
 */

/** Words at the beginning of the control memory. */
export const controlWords = {
  /** Odd while answers are being changed; counted up by two per change. */
  version: 0,
  /** Counted up when the memory of slots or blocks was enlarged. */
  layout: 1,
  /** Number of slots less one. */
  mask: 2,
  /** Of {@link tableFlags}. */
  flags: 3,
  /** Start value of hashes. */
  seed: 4,
  /** Octets of the zone's name. */
  zoneSize: 5,
  zoneLabels: 6,
  /** Octets of the authority section of a denial. */
  denialSize: 7,
} as const

/** Octets of the control memory: words, the zone's name in lower case, the authority section of a denial. */
export const controlOctets = { zone: 64, denial: 320, end: 1024 } as const

/** Where in the authority section of a denial compression pointers to the zone's name stand: owner, MNAME, RNAME. */
export const denialPointers = [0, 19, 32] as const

export const tableFlags = {
  /** Nothing is answered from here. */
  passAll: 1,
  /** Names that do not exist are somebody else's to answer. */
  passDenials: 2,
  /** What is answered to who speaks EDNS must say that the cluster is not heard. */
  passEdns: 4,
} as const

/** A slot of the hash table: the hash of a name, and where its block begins (0: free, -1: was deleted). */
export const slotWords = 2
export const deletedSlot = -1

/** Octets of a block: what is known about one name. */
export const blockOctets = {
  /** The name's hash. */
  hash: 0,
  /** The next block of the same group; for the writer. */
  next: 4,
  nameSize: 8,
  /** One of {@link nameKinds}. */
  kind: 9,
  answers: 10,
  /** 1: all names below this one are known, too, so that others below do not exist. */
  isClosed: 11,
  /** Answers begin here, then the name, then records. */
  head: 12,
} as const

/** What a name is. */
export const nameKinds = {
  /** It exists; types without an answer are NODATA. */
  known: 0,
  /** It exists; types without an answer are somebody else's to answer. */
  partlyKnown: 1,
  /** Somebody else knows. */
  unknown: 2,
  /** It does not exist (but something may below it). */
  absent: 3,
} as const

/** Octets of an answer: type (16 bits), counts of records, flags, and where its records stand in the block (16 bits each). */
export const answerOctets = {
  type: 0,
  records: 2,
  additionals: 3,
  /** 1: the records may be sent in any order. */
  rotates: 4,
  start: 6,
  /** Octets of the answer section alone; 0: somebody else knows. */
  answerSize: 8,
  /** Octets of all sections; 0 when the answer section fits into no UDP message. They are kept only when all of them do. */
  size: 10,
  end: 12,
} as const

/** What threads hand each other: the same memory for all. */
export interface AnswerMemory {
  readonly control: SharedArrayBuffer
  /** Growable. */
  readonly slots: SharedArrayBuffer
  /** Growable. */
  readonly blocks: SharedArrayBuffer
}

/** FNV-1a, and at the end its upper bits folded into the lower ones, which choose the slot. */
export const hashPrime = 0x0100_0193
export function foldHash(hash: number): number {
  const folded = Math.imul(hash ^ (hash >>> 15), 0x2c1b_3c6d)
  return folded ^ (folded >>> 13)
}
