import { describe, expect, test } from 'vitest'
import { parseProtocol, protocolFromNumber, protocolNumbers } from './protocol.ts'

describe('parseProtocol()', () => {
  test.each([
    ['TCP', 'tcp'],
    ['udp', 'udp'],
    ['Sctp', 'sctp'],
  ])('reads %s as %s', (text, expected) => expect(parseProtocol(text)).toBe(expected))

  test('refuses others and names them', () => {
    expect(() => parseProtocol('ICMP')).toThrow('"ICMP" is not a protocol (expected TCP, UDP or SCTP)')
  })
})

describe('protocolFromNumber()', () => {
  test.each(Object.entries(protocolNumbers))('knows %s', (name, number) =>
    expect(protocolFromNumber(number)).toBe(name),
  )

  test('knows no others', () => expect(protocolFromNumber(1)).toBeUndefined())
})
