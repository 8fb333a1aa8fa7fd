import { nameText } from './name.ts'
import { type RecordSet, recordTypes } from './record-set.ts'

/** Records as lines of presentation format, as far as tests need it. */
export function printRecords(sets: readonly RecordSet[]): string[] {
  return sets.flatMap((set) =>
    set.rdata.map((rdata) => `${nameText(set.owner)} ${set.ttl} ${printRdata(set.type, rdata)}`),
  )
}

function printRdata(type: number, rdata: RecordSet['rdata'][number]): string {
  const name = Object.entries(recordTypes).find(([, number]) => number === type)?.[0] ?? `TYPE${type}`
  const [first, second] = rdata
  if (first && !(first instanceof Uint8Array)) return `${name} ${nameText(first)}`
  const bytes = Buffer.from(first ?? [])
  if (type === recordTypes.A) return `A ${bytes.join('.')}`
  if (type === recordTypes.SRV && second instanceof Uint8Array)
    return `SRV ${[0, 2, 4].map((at) => bytes.readUInt16BE(at)).join(' ')} ${nameText({ wire: second, key: '' })}`
  return `${name} ${bytes.toString(type === recordTypes.AAAA ? 'hex' : 'latin1')}`
}
