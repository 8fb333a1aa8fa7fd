import { ProtocolError } from './api-error.ts'

/** An etcd object is at most 1.5 MB; JSON of that with room to spare. */
export const objectLimit = 32 * 1024 * 1024

const quote = 0x22
const backslash = 0x5c
const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b
const closeBracket = 0x5d
const comma = 0x2c

/** What a list says of itself. */
export interface ListMetadata {
  readonly resourceVersion: string
  /** Asks for the next page; empty at the last. */
  readonly continue: string
}

/**
 * Takes a JSON list (`ServiceList` ...) apart while it comes, so that no more than one object of it is in memory as text and
 * as tree, however long it is. Bytes in, objects out.
 */
export class ListDecoder {
  /** All bytes that belong to no item: the list without its items. */
  readonly #frame: Buffer[] = []
  #item: Buffer[] = []
  #itemLength = 0
  #depth = 0
  #inString = false
  #escaped = false
  #inItems = false
  /** The last string at depth 1, which is the key when an array begins. */
  #key = ''
  #keyParts: number[] | undefined;

  /** The objects of `items` that end in this chunk. Throws {@link ProtocolError}. */
  *push(chunk: Buffer): Generator {
    let start = 0
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i] ?? 0
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false
        else if (byte === backslash) this.#escaped = true
        else if (byte === quote) {
          this.#inString = false
          if (this.#keyParts) this.#key = String.fromCharCode(...this.#keyParts)
          this.#keyParts = undefined
        } else if (this.#keyParts && this.#keyParts.length < 16) this.#keyParts.push(byte)
        continue
      }
      switch (byte) {
        case quote:
          this.#inString = true
          if (this.#depth === 1) this.#keyParts = []
          break
        case openBrace:
        case openBracket:
          if (byte === openBracket && this.#depth === 1 && this.#key === 'items') {
            this.#inItems = true
            this.#frame.push(chunk.subarray(start, i + 1))
            start = i + 1
          }
          this.#depth++
          break
        case closeBrace:
        case closeBracket:
          this.#depth--
          if (this.#inItems && this.#depth === 2) {
            yield this.#take(chunk.subarray(start, i + 1))
            start = i + 1
          } else if (this.#inItems && this.#depth === 1) {
            this.#inItems = false
            start = i
          }
          break
        case comma:
          if (this.#inItems && this.#depth === 2) start = i + 1
          break
        default:
      }
    }
    const rest = chunk.subarray(start)
    if (!this.#inItems) this.#frame.push(rest)
    else if (rest.length > 0) this.#keep(rest)
  }

  /** Call it after the last chunk. Throws {@link ProtocolError} when the list broke off. */
  end(): ListMetadata {
    const metadata = metadataOf(parseJson(Buffer.concat(this.#frame)))
    const { resourceVersion } = metadata
    if (typeof resourceVersion !== 'string' || resourceVersion === '') {
      throw new ProtocolError('the list has no metadata.resourceVersion')
    }
    const next = metadata['continue']
    return { resourceVersion, continue: typeof next === 'string' ? next : '' }
  }

  #keep(part: Buffer): void {
    this.#item.push(part)
    this.#itemLength += part.length
    if (this.#itemLength > objectLimit)
      throw new ProtocolError(`an object of a list is larger than ${objectLimit} bytes`)
  }

  #take(last: Buffer): unknown {
    const bytes = this.#item.length === 0 ? last : Buffer.concat([...this.#item, last])
    this.#item = []
    this.#itemLength = 0
    return parseJson(bytes)
  }
}

/** Cuts a watch into its lines while it comes; an unfinished last line is dropped with the connection. */
export class LineDecoder {
  #parts: Buffer[] = []
  #length = 0;

  /** The JSON values of the lines that end in this chunk. Throws {@link ProtocolError}. */
  *push(chunk: Buffer): Generator {
    let start = 0
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      const line = chunk.subarray(start, end)
      const bytes = this.#parts.length === 0 ? line : Buffer.concat([...this.#parts, line])
      this.#parts = []
      this.#length = 0
      start = end + 1
      if (bytes.length > 1 || (bytes.length === 1 && bytes[0] !== 0x0d)) yield parseJson(bytes)
    }
    if (start === chunk.length) return
    this.#parts.push(chunk.subarray(start))
    this.#length += chunk.length - start
    if (this.#length > objectLimit) throw new ProtocolError(`an event of a watch is larger than ${objectLimit} bytes`)
  }
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString())
  } catch (error) {
    throw new ProtocolError(`the API server sent no JSON: ${(error as Error).message.slice(0, 80)}`, { cause: error })
  }
}

function metadataOf(value: unknown): Record<string, unknown> {
  const metadata: unknown =
    typeof value === 'object' && value !== null ? (value as Record<string, unknown>)['metadata'] : {}
  return typeof metadata === 'object' && metadata !== null ? (metadata as Record<string, unknown>) : {}
}
