import { nameText } from '../../src/dns-message/name.ts'
import { classNumbers, nameOf, rcodeNumbers, typeNumbers } from './codes.ts'
import type { CaseQuery, DnsExpectation, ExpectedEdns } from './dns-case.ts'
import { readMessage, type ReplyMessage, type SeenRecord } from './read-message.ts'
import { type ExpectedRecord, formatRdata } from './record-text.ts'

/** What was expected and what was seen instead; undefined when all is as it must be. */
export interface Difference {
  readonly expected: string
  readonly seen: string
}

const CNAME = 5

/** Compares a reply with what the case expects of it, and with what every reply must be. */
export function checkReply(
  query: CaseQuery,
  exchange: { sent: Buffer; reply: Buffer | undefined },
): Difference | undefined {
  const { sent, reply } = exchange
  if (query.expect === 'silence')
    return reply && { expected: 'silence', seen: `a reply of ${reply.length} octets: ${reply.toString('hex')}` }
  if (!reply) return { expected: 'a reply', seen: 'none' }
  let message: ReplyMessage
  try {
    message = readMessage(reply)
  } catch (error) {
    return { expected: 'a well-formed reply', seen: `${(error as Error).message}: ${reply.toString('hex')}` }
  }
  if (query.transport === 'udp' && reply.length > query.maxReply)
    return { expected: `at most ${query.maxReply} octets`, seen: `${reply.length}` }
  return checkTransaction(query, { sent, message }) ?? checkExpectation(query.expect, message)
}

function checkTransaction(
  query: CaseQuery,
  { sent, message }: { sent: Buffer; message: ReplyMessage },
): Difference | undefined {
  if (!message.flags.qr) return { expected: 'a response', seen: 'QR is 0' }
  const id = sent.readUInt16BE(0)
  if (message.id !== id) return { expected: `id ${id}`, seen: `${message.id}` }
  const opcode = ((sent[2] ?? 0) >>> 3) & 0xf
  if (message.opcode !== opcode) return { expected: `opcode ${opcode}`, seen: `${message.opcode}` }
  if (message.flags.z) return { expected: 'the reserved header bit 0 (RFC 1035 section 4.1.1)', seen: '1' }
  if (message.edns?.unknownFlags) return { expected: 'unknown EDNS flags 0 (RFC 6891 section 6.1.4)', seen: '1' }
  const { question } = message
  // To what was not understood, a header is answer enough.
  if (query.raw && question.length === 0) return undefined
  const asked = sent.subarray(12, 12 + question.length)
  if (question.length === 0 || !question.equals(asked))
    return { expected: 'the question byte for byte', seen: question.toString('hex') || 'no question' }
  const first = message.answer[0]
  if (first && !Buffer.from(first.owner.wire).equals(question.subarray(0, -4)))
    return { expected: 'the owner of the first record written as the question', seen: nameText(first.owner) }
  return undefined
}

function checkExpectation(expect: DnsExpectation, message: ReplyMessage): Difference | undefined {
  if (message.rcode !== expect.rcode)
    return { expected: rcodeText(expect.rcode), seen: `${rcodeText(message.rcode)} ${describe(message)}` }
  for (const flag of ['aa', 'ra', 'tc'] as const) {
    const wanted = expect[flag]
    if (wanted !== undefined && message.flags[flag] !== wanted)
      return { expected: `${flag}=${Number(wanted)}`, seen: `${flag}=${Number(message.flags[flag])}` }
  }
  for (const section of ['answer', 'authority', 'additional'] as const) {
    const wanted = expect[section]
    const difference = wanted && checkSection(section, wanted, message[section])
    if (difference) return difference
  }
  return checkOrder(message.answer) ?? checkEdns(expect.edns, message)
}

function checkSection(
  section: string,
  wanted: readonly ExpectedRecord[],
  seen: readonly SeenRecord[],
): Difference | undefined {
  const left = [...seen]
  const difference = {
    expected: `${section} ${wanted.map((record) => record.text).join(', ') || '(empty)'}`,
    seen: seen.map(recordText).join(', ') || '(empty)',
  }
  // The narrow ones first, so that a `*` does not take what only another one fits.
  for (const record of wanted.toSorted((a, b) => a.ttl.max - a.ttl.min - (b.ttl.max - b.ttl.min))) {
    const index = left.findIndex((candidate) => isSame(record, candidate))
    if (index < 0) return difference
    left.splice(index, 1)
  }
  return left.length > 0 ? difference : undefined
}

function isSame(wanted: ExpectedRecord, seen: SeenRecord): boolean {
  return (
    wanted.owner.key === seen.owner.key &&
    wanted.type === seen.type &&
    wanted.class === seen.class &&
    seen.ttl >= wanted.ttl.min &&
    seen.ttl <= wanted.ttl.max &&
    formatRdata(wanted.type, wanted.rdata, { start: 0, end: wanted.rdata.length }) === seen.rdata
  )
}

/** "A CNAME precedes its target." */
function checkOrder(answer: readonly SeenRecord[]): Difference | undefined {
  for (const [index, { type, rdata }] of answer.entries()) {
    if (type !== CNAME) continue
    const early = answer.slice(0, index).find((record) => nameText(record.owner).toLowerCase() === rdata)
    if (early) return { expected: `the CNAME before its target ${rdata}`, seen: answer.map(recordText).join(', ') }
  }
  return undefined
}

function checkEdns(expect: DnsExpectation['edns'], { edns }: ReplyMessage): Difference | undefined {
  if (expect === undefined) return undefined
  if (expect === 'none') return edns && { expected: 'no OPT record', seen: 'one' }
  if (!edns) return { expected: 'an OPT record', seen: 'none' }
  for (const field of ['version', 'do'] as const satisfies (keyof ExpectedEdns)[]) {
    if (expect[field] !== undefined && expect[field] !== edns[field])
      return { expected: `EDNS ${field} ${expect[field]}`, seen: `${edns[field]}` }
  }
  const unwanted = edns.options.find(({ code }) => expect.without.includes(code))
  return (
    unwanted && { expected: `no EDNS option ${unwanted.code}`, seen: unwanted.data.toString('hex') || 'an empty one' }
  )
}

function describe(message: ReplyMessage): string {
  const records = [...message.answer, ...message.authority].map(recordText)
  return records.length > 0 ? `with ${records.join(', ')}` : 'without records'
}

function recordText({ owner, ttl, type, class: recordClass, rdata }: SeenRecord): string {
  const words = [nameOf(recordClass, classNumbers, 'CLASS'), nameOf(type, typeNumbers, 'TYPE')]
  return `${nameText(owner)} ${ttl} ${words.join(' ')} ${rdata}`
}

function rcodeText(rcode: number): string {
  return nameOf(rcode, rcodeNumbers, 'RCODE')
}
