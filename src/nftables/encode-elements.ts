import { AttributeWriter } from '../netlink/attribute-writer.ts'
import { kernelLength, registerLength } from './fields.ts'
import {
  elementIntervalEnd,
  NFTA_DATA_VALUE,
  NFTA_DATA_VERDICT,
  NFTA_SET_ELEM_DATA,
  NFTA_SET_ELEM_FLAGS,
  NFTA_SET_ELEM_KEY,
  NFTA_SET_ELEM_KEY_END,
  NFTA_VERDICT_CHAIN,
  NFTA_VERDICT_CODE,
  verdictCodes,
} from './nf-tables-messages.ts'
import type { Elements, Expression, NftSet, RegisterBytes } from './objects.ts'

/** Element attributes, and which elements they are, for messages of at most 64 KiB each. */
export interface ElementChunk {
  /** The payload of NFTA_SET_ELEM_LIST_ELEMENTS. */
  readonly bytes: Buffer
  /** Where each element begins in {@link bytes}, and its key. For error messages: computed when asked. */
  locate(offset: number): RegisterBytes | undefined
  readonly count: number
}

/** An element that does not fit its set: a mistake of the caller. */
export class ElementError extends Error {
  override readonly name = 'ElementError'
}

/** Payload bytes of one attribute: its length is 16 bits and counts its own header. */
const maxListBytes = 0xffff - 4

/**
 * Encodes elements for NFT_MSG_NEWSETELEM, or their keys alone for DELSETELEM. Elements of most sets have one size, so
 * one is encoded and then copied, with key and data patched in: 100,000 elements take some ten milliseconds.
 */
export function* encodeElements(
  set: NftSet,
  elements: Elements,
  options: { readonly keysOnly: boolean },
): Generator<ElementChunk> {
  if (set.interval && set.key.length === 1) yield* encodeRanges(set, elements)
  else if (set.interval || (set.data === 'verdict' && !options.keysOnly)) yield* encodeOneByOne(set, elements)
  else yield* encodeByTemplate(set, elements, options.keysOnly ? [] : dataFields(set))
}

function* encodeByTemplate(set: NftSet, elements: Elements, data: readonly Expression[]): Generator<ElementChunk> {
  const keyLength = kernelLength(set.key)
  const dataLength = kernelLength(data)
  const keyRegisters = registerLength(set.key)
  const dataRegisters = registerLength(data)
  const writer = new AttributeWriter()
  const element = writer.beginNest(1)
  const keyAt = writeValue(writer, NFTA_SET_ELEM_KEY, Buffer.alloc(keyLength))
  const dataAt = dataLength > 0 ? writeValue(writer, NFTA_SET_ELEM_DATA, Buffer.alloc(dataLength)) : 0
  writer.endNest(element)
  const template = Buffer.from(writer.bytes())
  const size = template.length
  const perChunk = Math.floor(maxListBytes / size)

  const entries = elements.entries()
  for (let left = elements.size; left > 0;) {
    const count = Math.min(left, perChunk)
    left -= count
    const bytes = Buffer.allocUnsafe(count * size)
    const keys: RegisterBytes[] = []
    for (let index = 0; index < count; index++) {
      const [key, value] = entries.next().value as [RegisterBytes, RegisterBytes]
      if (key.length !== keyRegisters) throw wrongLength(set, 'key', key, keyRegisters)
      const at = index * size
      template.copy(bytes, at)
      // nft numbers the elements of a list; the kernel does not look.
      const number = index + 1
      bytes[at + 2] = number & 0xff
      bytes[at + 3] = (number >> 8) | 0x80
      bytes.write(key, at + keyAt, keyLength, 'latin1')
      if (dataAt > 0) {
        if (value.length !== dataRegisters) throw wrongLength(set, 'data', value, dataRegisters)
        bytes.write(value, at + dataAt, dataLength, 'latin1')
      }
      keys.push(key)
    }
    yield { bytes, count, locate: (offset) => keys[Math.floor(offset / size)] }
  }
}

function dataFields(set: NftSet): readonly Expression[] {
  return set.data === undefined || set.data === 'verdict' ? [] : set.data
}

/** Writes KEY or DATA with a value in it; returns the value's offset. */
function writeValue(writer: AttributeWriter, id: number, value: Buffer): number {
  const nest = writer.beginNest(id)
  writer.bytesAttribute(NFTA_DATA_VALUE, value)
  const at = writer.length - ((value.length + 3) & ~3)
  writer.endNest(nest)
  return at
}

/** Verdict maps and ranges of several fields: few elements of unequal size. */
function* encodeOneByOne(set: NftSet, elements: Elements): Generator<ElementChunk> {
  const keyRegisters = registerLength(set.key)
  const keyLength = kernelLength(set.key)
  const list = new ElementList()
  for (const [key, data] of elements) {
    if (key.length !== keyRegisters) throw wrongLength(set, 'key', key, keyRegisters)
    if (list.length > maxListBytes - 512) yield list.take()
    list.add(key, (writer) => {
      writeValue(writer, NFTA_SET_ELEM_KEY, Buffer.from(key.slice(0, keyLength), 'latin1'))
      if (set.data === 'verdict') writeVerdict(writer, set, data)
      else if (set.interval) {
        const last = data === '' ? key : data
        if (last.length !== keyRegisters) throw wrongLength(set, 'range end', last, keyRegisters)
        writeValue(writer, NFTA_SET_ELEM_KEY_END, Buffer.from(last, 'latin1'))
      }
    })
  }
  if (list.length > 0) yield list.take()
}

/**
 * Ranges of one field are two elements each: where it begins, and, flagged, the first value after it (none when the range
 * reaches to the highest value).
 */
function* encodeRanges(set: NftSet, elements: Elements): Generator<ElementChunk> {
  const keyRegisters = registerLength(set.key)
  const keyLength = kernelLength(set.key)
  const list = new ElementList()
  for (const [first, data] of elements) {
    if (first.length !== keyRegisters) throw wrongLength(set, 'key', first, keyRegisters)
    const last = data === '' ? first : data
    if (last.length !== keyRegisters) throw wrongLength(set, 'range end', last, keyRegisters)
    if (list.length > maxListBytes - 512) yield list.take()
    list.add(first, (writer) => {
      writeValue(writer, NFTA_SET_ELEM_KEY, Buffer.from(first.slice(0, keyLength), 'latin1'))
    })
    const end = Buffer.from(last.slice(0, keyLength), 'latin1')
    if (!increment(end)) continue
    list.add(first, (writer) => {
      writer.u32be(NFTA_SET_ELEM_FLAGS, elementIntervalEnd)
      writeValue(writer, NFTA_SET_ELEM_KEY, end)
    })
  }
  if (list.length > 0) yield list.take()
}

class ElementList {
  #writer = new AttributeWriter()
  #starts: number[] = []
  #keys: RegisterBytes[] = []

  get length(): number {
    return this.#writer.length
  }

  add(key: RegisterBytes, write: (writer: AttributeWriter) => void): void {
    this.#starts.push(this.#writer.length)
    this.#keys.push(key)
    const element = this.#writer.beginNest(this.#starts.length)
    write(this.#writer)
    this.#writer.endNest(element)
  }

  take(): ElementChunk {
    const starts = this.#starts
    const keys = this.#keys
    const bytes = this.#writer.bytes()
    this.#writer = new AttributeWriter()
    this.#starts = []
    this.#keys = []
    return {
      bytes,
      count: keys.length,
      locate: (offset) => keys[starts.findLastIndex((start) => start <= offset)],
    }
  }
}

/** Adds one to a number in network order. False when it was the highest. */
export function increment(bytes: Buffer): boolean {
  for (let at = bytes.length - 1; at >= 0; at--) {
    const sum = (bytes[at] as number) + 1
    bytes[at] = sum & 0xff
    if (sum <= 0xff) return true
  }
  return false
}

/** Takes one from a number in network order. */
export function decrement(bytes: Buffer): void {
  for (let at = bytes.length - 1; at >= 0; at--) {
    const difference = (bytes[at] as number) - 1
    bytes[at] = difference & 0xff
    if (difference >= 0) return
  }
}

/** A verdict as elements carry it: `goto CHAIN`, `jump CHAIN`, `accept`, `drop`, `return`. */
export function parseVerdict(text: string): { readonly kind: keyof typeof verdictCodes; readonly chain?: string } {
  const [kind = '', chain] = text.split(' ')
  if ((kind === 'goto' || kind === 'jump') && chain) return { kind, chain }
  if ((kind === 'accept' || kind === 'drop' || kind === 'return') && chain === undefined) return { kind }
  throw new ElementError(`"${text}" is not a verdict (expected goto CHAIN, jump CHAIN, accept, drop or return)`)
}

function writeVerdict(writer: AttributeWriter, set: NftSet, text: string): void {
  const { kind, chain } = parseVerdict(text)
  const data = writer.beginNest(NFTA_SET_ELEM_DATA)
  const verdict = writer.beginNest(NFTA_DATA_VERDICT)
  writer.u32be(NFTA_VERDICT_CODE, verdictCodes[kind])
  if (chain !== undefined) writer.string(NFTA_VERDICT_CHAIN, chain)
  writer.endNest(verdict)
  writer.endNest(data)
}

function wrongLength(set: NftSet, what: string, bytes: string, expected: number): ElementError {
  return new ElementError(`${what} of an element of ${set.name} has ${bytes.length} bytes, expected ${expected}`)
}
