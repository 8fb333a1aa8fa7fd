import { isAtOrBelow, type NameKey } from '../dns-message/name.ts'
import { type Answer, type RecordSet, recordTypes } from '../dns-message/record-set.ts'

/** RFC 6672. */
const DNAME = 39

/**
 * What of an upstream's answer belongs to the question: the aliases from the asked name on, in order, and the records of the
 * last name. Anything else in the answer section was not asked for and could be a lie about somebody else's name.
 */
export function relevantAnswer(answer: Answer, question: { readonly key: NameKey; readonly type: number }): Answer {
  if (answer.answer.length === 0) return answer
  const kept: RecordSet[] = []
  const seen = new Set<NameKey>()
  for (let key: NameKey | undefined = question.key; key !== undefined && !seen.has(key);) {
    seen.add(key)
    let next: NameKey | undefined
    for (const set of answer.answer) {
      // A DNAME stands above the name that it speaks about (RFC 6672).
      const isAbove = (set.type === DNAME || set.type === recordTypes.RRSIG) && isAtOrBelow(key, set.owner.key)
      if ((set.owner.key !== key && !isAbove) || kept.includes(set)) continue
      kept.push(set)
      const target =
        set.type === recordTypes.CNAME && question.type !== recordTypes.CNAME ? set.rdata[0]?.[0] : undefined
      if (target && !(target instanceof Uint8Array)) next = target.key
    }
    key = next
  }
  return kept.length === answer.answer.length
    ? { ...answer, answer: kept }
    : { ...answer, answer: kept, authenticData: false }
}
