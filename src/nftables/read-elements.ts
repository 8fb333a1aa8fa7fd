import type { NetlinkMessage } from '../netlink/message.ts'
import { decrement } from './encode-elements.ts'
import { kernelLength, registerLength } from './fields.ts'
import {
  elementIntervalEnd,
  NFTA_DATA_VALUE,
  NFTA_DATA_VERDICT,
  NFTA_SET_ELEM_DATA,
  NFTA_SET_ELEM_FLAGS,
  NFTA_SET_ELEM_KEY,
  NFTA_SET_ELEM_KEY_END,
  NFTA_SET_ELEM_LIST_ELEMENTS,
  NFTA_VERDICT_CHAIN,
  NFTA_VERDICT_CODE,
  verdictCodes,
} from './nf-tables-messages.ts'
import type { Elements, NftSet, RegisterBytes } from './objects.ts'

/*
 * Reads NFT_MSG_NEWSETELEM messages of a dump. By hand rather than by attribute table: a set may have hundreds of
 * thousands of elements, and an object per attribute would take ten times as long. The kernel's own lengths are trusted.
 */

const verdictNames = new Map<number, string>(Object.entries(verdictCodes).map(([name, code]) => [code, name]))

/** The elements in the messages of a dump of `set`. */
export function readElements(set: NftSet, messages: readonly NetlinkMessage[]): Elements {
  const found: RawElements = { keys: [], data: [], flags: [], ends: [] }
  for (const { payload } of messages) readMessage(payload, found)
  if (set.interval) return set.key.length === 1 ? joinRanges(set, found) : rangesOfFields(found)
  const elements = new Map<RegisterBytes, string>()
  const keyPadding = '\0'.repeat(registerLength(set.key) - kernelLength(set.key))
  const { data } = set
  const dataPadding =
    data === undefined || data === 'verdict' ? '' : '\0'.repeat(registerLength(data) - kernelLength(data))
  const { keys, data: values } = found
  for (let index = 0; index < keys.length; index++) {
    elements.set((keys[index] as string) + keyPadding, (values[index] as string) + dataPadding)
  }
  return elements
}

interface RawElements {
  readonly keys: string[]
  readonly data: string[]
  readonly flags: number[]
  readonly ends: string[]
}

function readMessage(bytes: Buffer, into: RawElements): void {
  // struct nfgenmsg first
  for (let at = 4; at < bytes.length;) {
    const length = attributeLength(bytes, at)
    if (attributeId(bytes, at) === NFTA_SET_ELEM_LIST_ELEMENTS) {
      const end = at + length
      for (let element = at + 4; element < end;) {
        const elementLength = attributeLength(bytes, element)
        readElement(bytes, element + 4, element + elementLength, into)
        element += (elementLength + 3) & ~3
      }
    }
    at += (length + 3) & ~3
  }
}

function readElement(bytes: Buffer, from: number, to: number, into: RawElements): void {
  let key = ''
  let data = ''
  let keyEnd = ''
  let flags = 0
  for (let at = from; at < to;) {
    const length = attributeLength(bytes, at)
    switch (attributeId(bytes, at)) {
      case NFTA_SET_ELEM_KEY:
        key = readData(bytes, at + 4)
        break
      case NFTA_SET_ELEM_DATA:
        data = readData(bytes, at + 4)
        break
      case NFTA_SET_ELEM_KEY_END:
        keyEnd = readData(bytes, at + 4)
        break
      case NFTA_SET_ELEM_FLAGS:
        flags = bytes.readUInt32BE(at + 4)
        break
      default:
    }
    at += (length + 3) & ~3
  }
  into.keys.push(key)
  into.data.push(data)
  into.ends.push(keyEnd)
  into.flags.push(flags)
}

/** NFTA_DATA_VALUE as it is, NFTA_DATA_VERDICT as words. */
function readData(bytes: Buffer, at: number): string {
  const length = attributeLength(bytes, at)
  const id = attributeId(bytes, at)
  if (id === NFTA_DATA_VALUE) return bytes.toString('latin1', at + 4, at + length)
  return id === NFTA_DATA_VERDICT ? readVerdict(bytes, at + 4, at + length) : ''
}

function readVerdict(bytes: Buffer, from: number, to: number): string {
  let name = ''
  let chain = ''
  for (let at = from; at < to;) {
    const length = attributeLength(bytes, at)
    const id = attributeId(bytes, at)
    if (id === NFTA_VERDICT_CODE) {
      const code = bytes.readUInt32BE(at + 4)
      name = verdictNames.get(code) ?? `verdict ${code}`
    } else if (id === NFTA_VERDICT_CHAIN) chain = ` ${bytes.toString('utf8', at + 4, at + length - 1)}`
    at += (length + 3) & ~3
  }
  return name + chain
}

/** Begin and end elements of one field, in any order, as ranges. */
function joinRanges(set: NftSet, { keys, flags }: RawElements): Elements {
  const padding = '\0'.repeat(registerLength(set.key) - kernelLength(set.key))
  const isEnd = (index: number): boolean => ((flags[index] as number) & elementIntervalEnd) !== 0
  // Where one range ends and the next begins at the same key, the end comes first.
  const order = keys.map((_, index) => index)
  order.sort((a, b) => {
    const [left, right] = [keys[a] as string, keys[b] as string]
    return left < right ? -1 : left > right ? 1 : Number(isEnd(b)) - Number(isEnd(a))
  })
  const elements = new Map<RegisterBytes, string>()
  let first: string | undefined
  for (const index of order) {
    const key = keys[index] as string
    if (!isEnd(index)) first = key
    else if (first !== undefined) {
      const last = Buffer.from(key, 'latin1')
      decrement(last)
      elements.set(first + padding, last.toString('latin1') + padding)
      first = undefined
    }
  }
  if (first !== undefined) elements.set(first + padding, '\xff'.repeat(first.length) + padding)
  return elements
}

function rangesOfFields({ keys, ends }: RawElements): Elements {
  return new Map(keys.map((key, index) => [key, ends[index] || key]))
}

function attributeLength(bytes: Buffer, at: number): number {
  const length = (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
  // A length below the header's would never end.
  return length < 4 ? 4 : length
}

/** Without the bits for nested and network order. */
function attributeId(bytes: Buffer, at: number): number {
  return (bytes[at + 2] as number) | (((bytes[at + 3] as number) & 0x3f) << 8)
}
