import { ownUdpSize } from './encode-response.ts'
import { MessageWriter } from './message-writer.ts'
import { flagBits, headerSize, type Question } from './query.ts'
import { recordTypes } from './record-set.ts'

export interface RequestOptions {
  readonly id: number
  readonly edns: boolean
  readonly dnssecOk: boolean
  readonly checkingDisabled: boolean
}

/** A request to a recursive resolver. EDNS is hop by hop (RFC 6891 section 6.1.1): the client's options stay with us. */
export function encodeRequest(question: Question, options: RequestOptions): Buffer {
  const writer = new MessageWriter(ownUdpSize)
  writer.skip(headerSize)
  writer.writeName(question.name)
  writer.write16(question.type)
  writer.write16(question.class)
  if (options.edns) {
    writer.writeBytes(Uint8Array.of(0))
    writer.write16(recordTypes.OPT)
    writer.write16(ownUdpSize)
    writer.write32(options.dnssecOk ? 0x8000 : 0)
    writer.write16(0)
  }
  // RFC 6840 section 5.7: AD asks for the validation result to be told.
  const flags = flagBits.rd | flagBits.ad | (options.checkingDisabled ? flagBits.cd : 0)
  return writer.finish([options.id, flags, 1, 0, 0, options.edns ? 1 : 0])
}
