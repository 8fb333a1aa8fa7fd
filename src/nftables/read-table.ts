import { setTimeout } from 'node:timers/promises'
import { decodeAttributes, encodeAttributes, type AttributeTable, type AttributeValues } from '../netlink/attributes.ts'
import type { NetlinkMessage } from '../netlink/message.ts'
import { isNotFound, NetlinkSocketError } from '../netlink/netlink-error.ts'
import type { NetlinkSocket } from '../netlink/netlink-socket.ts'
import type { ReadTable } from './client.ts'
import {
  chainAttributes,
  elementListAttributes,
  familyNumbers,
  hookNumbers,
  nftMessages,
  ruleAttributes,
  setAttributes,
  setFlags,
  tableAttributes,
  verdictType,
} from './nf-tables-messages.ts'
import type { Chain, ChainHook, Elements, NftFamily, NftSet } from './objects.ts'
import { readElements } from './read-elements.ts'
import { decodeSetUserData, decodeTableComment, keyOfType } from './user-data.ts'

/** A request's payload: struct nfgenmsg and attributes. */
export function nftPayload<T extends AttributeTable>(
  family: NftFamily | 'unspec',
  table: T,
  values: AttributeValues<T>,
): Buffer {
  const header = Buffer.from([family === 'unspec' ? 0 : familyNumbers[family], 0, 0, 0])
  return Buffer.concat([header, encodeAttributes(table, values)])
}

/** The attributes of an answer, after struct nfgenmsg. */
export function decodeNft<T extends AttributeTable>(table: T, message: NetlinkMessage): AttributeValues<T> {
  return decodeAttributes(table, message.payload.subarray(4))
}

/**
 * Reads a table by dumps, one after another: the caller makes sure that no commit came between them. Undefined when there
 * is no such table. Throws NetlinkError, ENOENT among them when the table goes meanwhile.
 */
export async function readTable(
  socket: NetlinkSocket,
  family: NftFamily,
  name: string,
): Promise<ReadTable | undefined> {
  const comment = await readComment(socket, family, name)
  if (comment === undefined) return undefined
  const payload = nftPayload(family, ruleAttributes, { table: name })
  const [chainMessages, ruleMessages, setMessages] = [
    await socket.dump({ name: `list chains of ${family}`, type: nftMessages.getChain, payload }),
    await socket.dump({ name: `list rules of ${family} ${name}`, type: nftMessages.getRule, payload }),
    await socket.dump({ name: `list sets of ${family} ${name}`, type: nftMessages.getSet, payload }),
  ]
  const chains = chainMessages
    .map((message) => decodeNft(chainAttributes, message))
    .filter((values) => values.table === name)
    .map(chainOf)
  const ruleCounts = new Map(chains.map((chain) => [chain.name, 0]))
  for (const message of ruleMessages) {
    const { chain, table } = decodeNft(ruleAttributes, message)
    if (chain !== undefined && table === name) ruleCounts.set(chain, (ruleCounts.get(chain) ?? 0) + 1)
  }
  const sets = setMessages
    .map((message) => decodeNft(setAttributes, message))
    .filter((values) => values.table === name && !((values.flags ?? 0) & setFlags.anonymous))
    .map((values) => ({ set: setOf(values), count: values.count }))
  const elements = new Map<string, Elements>()
  for (const { set, count } of sets)
    elements.set(set.name, await readAllElements(socket, { family, table: name, set, count }))
  return {
    family,
    name,
    ...(comment !== '' && { comment }),
    chains,
    sets: sets.map(({ set }) => set),
    elements,
    ruleCounts,
  }
}

/** How often a set is read again whose table of elements is being resized, and the pause between. */
const maxElementReads = 100
const pauseMs = 5

/**
 * The elements of a set. After many were added, the kernel resizes the set's hash table in the background, and a dump
 * meanwhile leaves elements out without saying so. So what was read must be as many as the kernel counts, or, where it
 * does not tell (before 6.16), as many as another read finds.
 */
async function readAllElements(
  socket: NetlinkSocket,
  what: { family: NftFamily; table: string; set: NftSet; count: number | undefined },
): Promise<Elements> {
  const { family, table, set } = what
  if (set.dynamic) return new Map()
  let expected = what.count
  for (let attempt = 1; ; attempt++) {
    const messages = await socket.dump({
      name: `list elements of ${family} ${table} ${set.name}`,
      type: nftMessages.getElements,
      payload: nftPayload(family, elementListAttributes, { table, set: set.name }),
    })
    const elements = readElements(set, messages)
    // Ranges are counted differently by different kernels, and do not live in hash tables.
    if (set.interval || set.data === 'verdict' || elements.size === expected) return elements
    if (expected === undefined && elements.size < 100) return elements
    if (attempt === maxElementReads) {
      throw new NetlinkSocketError(`list elements of ${family} ${table} ${set.name}: another number each time`)
    }
    if (what.count === undefined) expected = elements.size
    await setTimeout(pauseMs)
  }
}

/** The table's comment, empty when it has none; undefined when there is no such table. */
async function readComment(socket: NetlinkSocket, family: NftFamily, name: string): Promise<string | undefined> {
  try {
    const [message] = await socket.request({
      name: `get table ${family} ${name}`,
      type: nftMessages.getTable,
      payload: nftPayload(family, tableAttributes, { name }),
    })
    if (!message) return undefined
    const { userData } = decodeNft(tableAttributes, message)
    return (userData && decodeTableComment(userData)) ?? ''
  } catch (error) {
    if (isNotFound(error)) return undefined
    throw error
  }
}

/** NF_INET_*_HOOK to its name. */
export const hooksByNumber: ReadonlyMap<number, ChainHook['hook']> = new Map(
  Object.entries(hookNumbers).map(([hook, number]) => [number, hook as ChainHook['hook']]),
)
const NF_ACCEPT = 1

/** A base chain of another kind (a policy of drop, a hook that we do not know) reads as one without a hook. */
function chainOf(values: AttributeValues<typeof chainAttributes>): Chain {
  const name = values.name ?? ''
  const hook = hooksByNumber.get(values.hook?.number ?? -1)
  const { type } = values
  const known = type === 'nat' || type === 'filter' || type === 'route'
  if (!hook || !known || values.policy !== NF_ACCEPT) return { name, rules: [] }
  return { name, hook: { type, hook, priority: (values.hook?.priority ?? 0) | 0 }, rules: [] }
}

/** A set of a kind that this library does not make reads as one without a key: it equals no other. */
function setOf(values: AttributeValues<typeof setAttributes>): NftSet {
  const { name = '', flags = 0, keyType = 0, dataType, userData } = values
  const said = userData && decodeSetUserData(userData)
  const ours = setFlags.constant | setFlags.interval | setFlags.map | setFlags.concat
  const dynamic = (flags & setFlags.eval) !== 0 && (flags & setFlags.timeout) !== 0
  const known = dynamic ? ours | setFlags.eval | setFlags.timeout : ours
  const key = flags & ~known ? [] : (said?.key ?? keyOfType(keyType) ?? [])
  const isMap = (flags & setFlags.map) !== 0
  const data = !isMap
    ? undefined
    : dataType === verdictType
      ? 'verdict'
      : (said?.data ?? keyOfType(dataType ?? 0) ?? [])
  return {
    name,
    key,
    ...(data !== undefined && { data }),
    ...(flags & setFlags.interval && { interval: true }),
    ...(dynamic && { dynamic: { size: values.description?.size ?? 0 } }),
    ...(said?.comment !== undefined && { comment: said.comment }),
  }
}
