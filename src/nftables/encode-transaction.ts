import { AttributeWriter } from '../netlink/attribute-writer.ts'
import { writeAttributes, type AttributeValues } from '../netlink/attributes.ts'
import { NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST } from '../netlink/message.ts'
import { encodeElements, type ElementChunk } from './encode-elements.ts'
import { fieldBytes, writeRuleExpressions } from './encode-rule.ts'
import { concatType, fieldOf, kernelLength, paddedLength } from './fields.ts'
import {
  batchAttributes,
  chainAttributes,
  elementListAttributes,
  familyNumbers,
  hookNumbers,
  nftMessages,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFTA_RULE_EXPRESSIONS,
  NFTA_RULE_USERDATA,
  NFTA_SET_ELEM_LIST_ELEMENTS,
  ruleAttributes,
  setAttributes,
  setFlags,
  tableAttributes,
  verdictType,
} from './nf-tables-messages.ts'
import type { Chain, Elements, Expression, NftSet, RegisterBytes, Rule, Statement } from './objects.ts'
import type { Change, Transaction } from './transaction.ts'
import { anonymousSetUserData, encodeSetUserData, ruleUserData, tableUserData } from './user-data.ts'

/** What a message of the batch was for. */
export interface MessageOrigin {
  readonly change: Change
  /** The element that the offset of an error points at, for changes of elements. */
  readonly key?: RegisterBytes
}

export interface EncodedTransaction {
  /** BATCH_BEGIN, one or more messages for each change, BATCH_END. */
  readonly datagram: Buffer
  readonly firstSeq: number
  /** The last message before BATCH_END: the one that the kernel acknowledges. */
  readonly lastSeq: number
  readonly messages: number
  readonly elements: number
  /** What a message was for. `offset`: as the kernel's extended ack has it, from the message's header on. */
  describe(seq: number, offset?: number): MessageOrigin | undefined
}

/**
 * Encodes a transaction as one datagram (nfnetlink: one sendmsg is one transaction). With `generation` the kernel
 * refuses it (ERESTART) unless the ruleset is still that one. Pure. Throws StatementError or ElementError for what cannot
 * be encoded.
 */
export function encodeTransaction(
  transaction: Transaction,
  options: { readonly firstSeq: number; readonly generation?: number },
): EncodedTransaction {
  return new TransactionWriter(transaction, options).encode()
}

interface Origin {
  readonly change: Change
  /** Where the element list begins in the message. */
  readonly listOffset?: number
  readonly chunk?: ElementChunk
}

/** struct nfgenmsg of BATCH_BEGIN and BATCH_END: the subsystem stands in res_id, in network order. */
const batchHeader = Buffer.from([0, 0, 0, NFNL_SUBSYS_NFTABLES])

class TransactionWriter {
  readonly #writer = new AttributeWriter(64 * 1024)
  readonly #transaction: Transaction
  readonly #firstSeq: number
  readonly #generation: number | undefined
  readonly #origins: Origin[] = []
  readonly #setIds = new Map<string, number>()
  #nextSetId = 1
  #elements = 0
  #lastMessage = 0

  constructor(transaction: Transaction, options: { readonly firstSeq: number; readonly generation?: number }) {
    this.#transaction = transaction
    this.#firstSeq = options.firstSeq
    this.#generation = options.generation
  }

  encode(): EncodedTransaction {
    const { changes } = this.#transaction
    const firstSeq = this.#firstSeq
    const writer = this.#writer
    const begin = writer.beginMessage(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, firstSeq)
    writer.raw(batchHeader)
    writeAttributes(writer, batchAttributes, { generation: this.#generation })
    writer.endMessage(begin)
    for (const change of changes) this.#change(change)
    const lastSeq = firstSeq + this.#origins.length
    const end = writer.beginMessage(NFNL_MSG_BATCH_END, NLM_F_REQUEST, lastSeq + 1)
    writer.raw(batchHeader)
    writer.endMessage(end)
    const datagram = writer.bytes()
    // The flags of the last change's message: its acknowledgement tells that the whole batch was worked through.
    if (this.#origins.length > 0) {
      datagram.writeUInt16LE(datagram.readUInt16LE(this.#lastMessage + 6) | NLM_F_ACK, this.#lastMessage + 6)
    }
    const origins = this.#origins
    return {
      datagram,
      firstSeq,
      lastSeq,
      messages: origins.length + 2,
      elements: this.#elements,
      describe(seq, offset) {
        const origin = origins[seq - firstSeq - 1]
        if (!origin) return undefined
        const { change, chunk, listOffset } = origin
        const inside = offset !== undefined && listOffset !== undefined ? offset - listOffset : -1
        // An offset of the list's own header means no particular element, unless there is only one.
        const key = chunk?.count === 1 ? chunk.locate(0) : inside >= 0 ? chunk?.locate(inside) : undefined
        return { change, ...(key !== undefined && { key }) }
      },
    }
  }

  #change(change: Change): void {
    const table = this.#transaction.table
    switch (change.op) {
      case 'add-table':
        return this.#message(change, nftMessages.newTable, 0, (writer) =>
          writeAttributes(writer, tableAttributes, {
            name: table,
            flags: 0,
            userData: change.comment === undefined ? undefined : tableUserData(change.comment),
          }),
        )
      case 'delete-table':
        return this.#message(change, nftMessages.deleteTable, 0, (writer) =>
          writeAttributes(writer, tableAttributes, { name: table }),
        )
      case 'add-chain':
        return this.#message(change, nftMessages.newChain, NLM_F_CREATE, (writer) =>
          writeAttributes(writer, chainAttributes, { table, ...chainValues(change.chain) }),
        )
      case 'delete-chain':
        return this.#message(change, nftMessages.deleteChain, 0, (writer) =>
          writeAttributes(writer, chainAttributes, { table, name: change.chain }),
        )
      case 'flush-chain':
        return this.#message(change, nftMessages.deleteRule, 0, (writer) =>
          writeAttributes(writer, ruleAttributes, { table, chain: change.chain }),
        )
      case 'add-rule':
        return this.#addRule(change, change.chain, change.rule)
      case 'add-set':
        return this.#addSet(change, change.set)
      case 'delete-set':
        this.#setIds.delete(change.set)
        return this.#message(change, nftMessages.deleteSet, 0, (writer) =>
          writeAttributes(writer, setAttributes, { table, name: change.set }),
        )
      case 'add-elements':
        return this.#writeElements(change, change.set, change.elements, false)
      case 'delete-elements':
        return this.#writeElements(change, change.set, change.elements, true)
      default:
        return change satisfies never
    }
  }

  #addRule(change: Change, chain: string, rule: Rule): void {
    const { family, table } = this.#transaction
    const anonymous = new Map<Statement, number>()
    for (const statement of rule.statements) {
      if (statement.kind === 'match' && 'anyOf' in statement.value) {
        anonymous.set(statement, this.#addAnonymousSet(change, statement.left, statement.value.anyOf))
      }
    }
    this.#message(change, nftMessages.newRule, NLM_F_CREATE | NLM_F_APPEND, (writer) => {
      writeAttributes(writer, ruleAttributes, { table, chain })
      const expressions = writer.beginNest(NFTA_RULE_EXPRESSIONS)
      writeRuleExpressions(writer, rule.statements, {
        family,
        setId: (name) => this.#setIds.get(name),
        anonymousSetId: (statement) => anonymous.get(statement) as number,
      })
      writer.endNest(expressions)
      if (rule.comment !== undefined) writer.bytesAttribute(NFTA_RULE_USERDATA, ruleUserData(rule.comment))
    })
  }

  #addSet(change: Change, set: NftSet): void {
    const { table } = this.#transaction
    const id = this.#nextSetId++
    this.#setIds.set(set.name, id)
    const data = set.data
    const concatenatedRanges = set.interval === true && set.key.length > 1
    this.#message(change, nftMessages.newSet, NLM_F_CREATE, (writer) =>
      writeAttributes(writer, setAttributes, {
        table,
        name: set.name,
        flags: setFlagsOf(set),
        keyType: concatType(set.key),
        keyLength: kernelLength(set.key),
        dataType: data === undefined ? undefined : data === 'verdict' ? verdictType : concatType(data),
        dataLength: data === undefined ? undefined : data === 'verdict' ? 0 : kernelLength(data),
        id,
        description: concatenatedRanges
          ? { concat: set.key.map((key) => ({ length: fieldOf(key).length })) }
          : set.dynamic && { size: set.dynamic.size },
        userData: encodeSetUserData(set),
      }),
    )
  }

  #addAnonymousSet(change: Change, key: Expression, values: readonly number[]): number {
    const { table } = this.#transaction
    const id = this.#nextSetId++
    const field = fieldOf(key)
    this.#message(change, nftMessages.newSet, NLM_F_CREATE, (writer) =>
      writeAttributes(writer, setAttributes, {
        table,
        name: '__set%d',
        flags: setFlags.anonymous | setFlags.constant,
        keyType: field.type,
        keyLength: field.length,
        id,
        description: { size: values.length },
        userData: anonymousSetUserData(key),
      }),
    )
    const set: NftSet = { name: '__set%d', key: [key] }
    const elements = new Map(values.map((value) => [anonymousKey(key, value), '']))
    for (const chunk of encodeElements(set, elements, { keysOnly: false }))
      this.#elementMessage(change, set, id, chunk, false)
    return id
  }

  #writeElements(change: Change, set: NftSet, elements: Elements, remove: boolean): void {
    const id = remove ? undefined : this.#setIds.get(set.name)
    for (const chunk of encodeElements(set, elements, { keysOnly: remove })) {
      this.#elementMessage(change, set, id, chunk, remove)
    }
    this.#elements += elements.size
  }

  #elementMessage(change: Change, set: NftSet, id: number | undefined, chunk: ElementChunk, remove: boolean): void {
    let listOffset = 0
    const type = remove ? nftMessages.deleteElements : nftMessages.newElements
    this.#message(
      change,
      type,
      remove ? 0 : NLM_F_CREATE,
      (writer, start) => {
        writeAttributes(writer, elementListAttributes, { table: this.#transaction.table, set: set.name, setId: id })
        const list = writer.beginNest(NFTA_SET_ELEM_LIST_ELEMENTS)
        listOffset = writer.length - start
        writer.raw(chunk.bytes)
        writer.endNest(list)
      },
      () => ({ change, chunk, listOffset }),
    )
  }

  #message(
    change: Change,
    type: number,
    flags: number,
    write: (writer: AttributeWriter, start: number) => void,
    origin: () => Origin = () => ({ change }),
  ): void {
    const writer = this.#writer
    const start = writer.beginMessage(type, NLM_F_REQUEST | flags, this.#firstSeq + 1 + this.#origins.length)
    writer.raw(Buffer.from([familyNumbers[this.#transaction.family], 0, 0, 0]))
    write(writer, start)
    writer.endMessage(start)
    this.#lastMessage = start
    this.#origins.push(origin())
  }
}

const NF_ACCEPT = 1

function chainValues(chain: Omit<Chain, 'rules'>): AttributeValues<typeof chainAttributes> {
  const { name, hook } = chain
  if (!hook) return { name }
  return {
    name,
    type: hook.type,
    policy: NF_ACCEPT,
    hook: { number: hookNumbers[hook.hook], priority: hook.priority >>> 0 },
  }
}

function setFlagsOf(set: NftSet): number {
  let flags = set.data === undefined ? 0 : setFlags.map
  if (set.interval) flags |= setFlags.interval | (set.key.length > 1 ? setFlags.concat : 0)
  if (set.dynamic) flags |= setFlags.timeout | setFlags.eval
  return flags
}

/** A number as the key of a set with one field, padded as keys are. */
function anonymousKey(key: Expression, value: number): RegisterBytes {
  const field = fieldOf(key)
  return fieldBytes(field, value).toString('latin1').padEnd(paddedLength(field), '\0')
}
