import { encodeResponse } from '../dns-message/encode-response.ts'
import type { Name, NameKey } from '../dns-message/name.ts'
import { headerSize, read16 } from '../dns-message/query.ts'
import { type Answer, recordClasses, recordTypes } from '../dns-message/record-set.ts'
import type { FinishedAnswer, FinishedName } from '../dns-workers/answer-table.ts'
import type { ClusterZone } from './cluster-zone.ts'
import type { NameEntry } from './compile-service.ts'

/** Types whose records stand for themselves, so that they can be sent in any order. Names of other types may be compressed against each other. */
const rotatingTypes: ReadonlySet<number> = new Set([recordTypes.A, recordTypes.AAAA, recordTypes.SRV])

/**
 * The finished answers of one name of a zone, made by the general path itself: what it would say is what workers say. `types`: those
 * to finish, default all that the name has; questions about its other ones are passed on.
 */
export function finishName(
  zone: ClusterZone,
  name: Name,
  {
    entry,
    isClosed,
    types,
  }: { readonly entry: NameEntry; readonly isClosed: boolean; readonly types?: readonly number[] },
): FinishedName {
  const { key } = name
  if (entry.alias) return { key, kind: 'unknown', isClosed, answers: [] }
  const answers = [...entry.sets.keys()].map((type): FinishedAnswer => {
    const result = (types?.includes(type) ?? true) ? zone.answer(name, type) : undefined
    return result?.kind === 'answer' ? finishAnswer(name, type, result.answer) : unfinished(type)
  })
  return { key, kind: 'known', isClosed, answers }
}

function unfinished(type: number): FinishedAnswer {
  return { type, records: noRecords, answerSize: 0, answers: 0, additionals: 0, rotates: false }
}

const noRecords = new Uint8Array()

function finishAnswer(name: Name, type: number, answer: Answer): FinishedAnswer {
  const { message, start } = encodeAlone(name, type, answer)
  const answers = read16(message, 6)
  const answerSize = recordsEnd(message, start, answers) - start
  return {
    type,
    records: message.subarray(start),
    answerSize,
    answers,
    additionals: read16(message, 10),
    rotates: answers > 1 && answers < 256 && rotatingTypes.has(type),
  }
}

/** The authority section of a denial of `name`. */
export function finishDenial(zone: ClusterZone, name: Name): Uint8Array {
  const { message, start } = encodeAlone(name, recordTypes.A, zone.denial)
  return message.subarray(start)
}

/** The response to a question without EDNS, whatever its size, and where the records begin. */
function encodeAlone(name: Name, type: number, answer: Answer): { message: Buffer; start: number } {
  const query = {
    id: 0,
    recursionDesired: false,
    checkingDisabled: false,
    authenticData: false,
    question: { name, type, class: recordClasses.IN },
    edns: undefined,
  }
  const message = encodeResponse(query, answer, { transport: 'tcp', recursionAvailable: true, rotation: 0 })
  return { message, start: headerSize + name.wire.length + 4 }
}

/** Where `count` records end whose owners are compression pointers. */
function recordsEnd(message: Uint8Array, start: number, count: number): number {
  let at = start
  for (let i = 0; i < count; i++) at += 12 + read16(message, at + 10)
  return at
}

/** A name as its key has it. */
export function nameOfKey(key: NameKey): Name {
  return { wire: Buffer.from(key, 'latin1'), key }
}
