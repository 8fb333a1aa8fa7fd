import { assert, property, uint8Array } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseRequest } from './query.ts'
import { rcodes } from './record-set.ts'

const question = '0161 00 0001 0001'
const opt = '00 0029 04d0 00000000 0000'
const bytes = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex')

describe('parseRequest()', () => {
  for (const [what, hex, rcode] of [
    ['QDCOUNT 0', '1234 0100 0000 0000 0000 0000', 'FORMERR'],
    ['two questions', `1234 0100 0002 0000 0000 0000 ${question} ${question}`, 'FORMERR'],
    ['a question cut short', '1234 0100 0001 0000 0000 0000 0161 00 00', 'FORMERR'],
    ['no question although one is promised', '1234 0100 0001 0000 0000 0000', 'FORMERR'],
    ['a question that points at itself', '1234 0100 0001 0000 0000 0000 c00c 0001 0001', 'FORMERR'],
    ['two OPT records', `1234 0100 0001 0000 0000 0002 ${question} ${opt} ${opt}`, 'FORMERR'],
    ['OPT in the answer section', `1234 0100 0001 0001 0000 0000 ${question} ${opt}`, 'FORMERR'],
    ['OPT with an owner', `1234 0100 0001 0000 0000 0001 ${question} 0161 ${opt}`, 'FORMERR'],
    [
      'an EDNS option past its record',
      `1234 0100 0001 0000 0000 0001 ${question} 00 0029 04d0 00000000 0005 000a 0002 00`,
      'FORMERR',
    ],
    ['RDLENGTH past the end', `1234 0100 0001 0000 0000 0001 ${question} 00 0029 04d0 00000000 0009`, 'FORMERR'],
    ['ARCOUNT without the record', `1234 0100 0001 0000 0000 0001 ${question}`, 'FORMERR'],
    ['type OPT', '1234 0100 0001 0000 0000 0000 0161 00 0029 0001', 'FORMERR'],
    ['opcode NOTIFY', `1234 2100 0001 0000 0000 0000 ${question}`, 'NOTIMP'],
    ['opcode STATUS without a question', '1234 1100 0000 0000 0000 0000', 'NOTIMP'],
  ] as const)
    test(`answers ${rcode} to ${what}`, () =>
      expect(parseRequest(bytes(hex))).toMatchObject({ kind: 'error', id: 0x1234, rcode: rcodes[rcode] }))

  for (const [what, hex] of [
    ['an empty message', ''],
    ['11 octets', '1234 0100 0001 0000 0000 00'],
    ['a response', `1234 8100 0001 0000 0000 0000 ${question}`],
    ['a response with a strange opcode', `1234 f900 0001 0000 0000 0000 ${question}`],
  ] as const)
    test(`drops ${what}`, () => expect(parseRequest(bytes(hex))).toEqual({ kind: 'drop' }))

  test('reads flags and EDNS', () => {
    const parsed = parseRequest(bytes(`1234 0130 0001 0000 0000 0001 ${question} 00 0029 1000 00018000 0000`))
    expect(parsed).toMatchObject({
      kind: 'query',
      query: {
        recursionDesired: true,
        checkingDisabled: true,
        authenticData: true,
        edns: { udpSize: 4096, version: 1, dnssecOk: true },
      },
    })
  })

  test('does not throw on any bytes', () => {
    assert(
      property(uint8Array({ maxLength: 200 }), (message) => {
        expect(['query', 'cookie', 'error', 'drop']).toContain(parseRequest(message).kind)
      }),
      { numRuns: 500 },
    )
  })
})
