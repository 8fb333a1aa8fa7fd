import { Packet } from 'dns2'
import { describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { encodeResponse } from './encode-response.ts'
import { parseName } from './name.ts'
import type { Query } from './query.ts'
import { addressSets, type Answer, emptyAnswer, nameSet, rcodes, recordTypes, srvSet } from './record-set.ts'
import { parseReply } from './reply.ts'

// What we write is read back by dns2, a codec that shares no code with ours.

const owner = parseName('Many.data.svc.cluster.local')
const ips = (count: number) => Array.from({ length: count }, (_, i) => parseIp(`10.7.20.${i + 1}`))
const answerOf = (count: number): Answer => ({
  ...emptyAnswer(0),
  authoritative: true,
  answer: addressSets(ips(count), { owner, ttl: 5 }),
})
const query = (edns?: Query['edns']): Query => ({
  id: 7,
  recursionDesired: true,
  checkingDisabled: false,
  authenticData: false,
  question: { name: owner, type: recordTypes.A, class: 1 },
  edns,
})
const encode = (
  answer: Answer,
  {
    edns,
    transport = 'udp',
    rotation = 0,
  }: { edns?: Query['edns']; transport?: 'udp' | 'tcp'; rotation?: number } = {},
) => encodeResponse(query(edns), answer, { transport, recursionAvailable: true, rotation })

describe('encodeResponse()', () => {
  for (const [what, count, options, expected] of [
    ['20 addresses without EDNS', 20, {}, { length: 365, answers: 20, tc: 0 }],
    ['40 addresses without EDNS', 40, {}, { length: 45, answers: 0, tc: 1 }],
    [
      '40 addresses for 1232 octets',
      40,
      { edns: { udpSize: 1232, version: 0, dnssecOk: false } },
      { length: 696, answers: 40, tc: 0 },
    ],
    [
      '20 addresses for 100 octets, which count as 512',
      20,
      { edns: { udpSize: 100, version: 0, dnssecOk: false } },
      { length: 376, answers: 20, tc: 0 },
    ],
    [
      '90 addresses for 65535 octets, of which we give 1232',
      90,
      { edns: { udpSize: 65_535, version: 0, dnssecOk: false } },
      { length: 56, answers: 0, tc: 1 },
    ],
    ['90 addresses over TCP', 90, { transport: 'tcp' }, { length: 1485, answers: 90, tc: 0 }],
    [
      '5000 addresses over TCP, which is too much even there',
      5000,
      { transport: 'tcp' },
      { length: 45, answers: 0, tc: 1 },
    ],
  ] as const)
    test(`fits ${what}`, () => {
      const count5000 = Array.from({ length: count }, (_, i) =>
        parseIp(`10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`),
      )
      const answer: Answer = { ...answerOf(0), answer: addressSets(count5000, { owner, ttl: 5 }) }
      const bytes = encode(answer, options)
      const { header, answers, questions, errors } = Packet.parse(bytes)
      expect(errors).toEqual([])
      expect({ length: bytes.length, answers: answers.length, tc: header.tc }).toEqual(expected)
      expect(questions[0]?.name).toBe('Many.data.svc.cluster.local')
    })

  test('drops additional sets without TC when they do not fit', () => {
    const answer: Answer = {
      ...answerOf(20),
      additional: addressSets(ips(40), { owner: parseName('x.example'), ttl: 5 }),
    }
    const { header, answers, additionals } = Packet.parse(encode(answer))
    expect([header.tc, answers.length, additionals.length]).toEqual([0, 20, 0])
  })

  test('compresses owners and names in RDATA, but not SRV targets (RFC 2782)', () => {
    const target = parseName('b.data.svc.cluster.local')
    const srv = srvSet([{ priority: 0, weight: 1, port: 80, target }], { owner, ttl: 5 })
    const cname = nameSet(recordTypes.CNAME, [target], { owner, ttl: 5 })
    const lengthOf = (set: typeof srv) => encode({ ...answerOf(0), answer: [set] }).length - encode(answerOf(0)).length
    expect(lengthOf(srv)).toBe(12 + 6 + target.wire.length)
    expect(lengthOf(cname)).toBe(12 + 2 + 2)
  })

  test('starts record sets at the rotation', () => {
    const first = (rotation: number) => parseReply(encode(answerOf(3), { rotation })).answer.answer[0]?.rdata[0]?.[0]
    expect([0, 1, 2, 3].map((rotation) => (first(rotation) as Uint8Array)[3])).toEqual([1, 2, 3, 1])
  })

  test('splits BADVERS between header and OPT, with our version, our size and no option', () => {
    const bytes = encode(emptyAnswer(rcodes.BADVERS), { edns: { udpSize: 4096, version: 1, dnssecOk: true } })
    expect(bytes.subarray(-11).toString('hex')).toBe('00002904d0010080000000')
    expect((bytes[3] ?? 0) & 0xf).toBe(0)
  })

  test('tells AD only to those who asked', () => {
    const answer = { ...answerOf(1), authenticData: true }
    const adBit = (response: Buffer) => (response[3] ?? 0) & 0x20
    expect(adBit(encode(answer))).toBe(0)
    expect(adBit(encode(answer, { edns: { udpSize: 1232, version: 0, dnssecOk: true } }))).toBe(0x20)
  })
})
