import { describe, expect, it } from 'vitest'
import { formatCidr } from './cidr.ts'
import { parseLegacyCidr, parseLegacyIp } from './legacy-address.ts'
import { ParseError } from './parse-error.ts'

describe('parseLegacyIp', () => {
  it.each([
    ['172.30.0.041', '172.30.0.41'],
    ['001.002.000.0100', '1.2.0.100'],
    ['10.0.0.0', '10.0.0.0'],
    ['fd00::0001', 'fd00::1'],
  ])('reads %s as %s', (text, expected) => {
    expect(parseLegacyIp(text)).toBe(expected)
  })

  it.each(['10.0.0.0256', '10.0.1', '010.0.0.1.5', '0x10.0.0.1'])('refuses %s', (text) => {
    expect(() => parseLegacyIp(text)).toThrow(ParseError)
  })
})

describe('parseLegacyCidr', () => {
  it('reads zeros at the beginning of numbers as decimal', () => {
    expect(formatCidr(parseLegacyCidr('203.0.113.000/025'))).toBe('203.0.113.0/25')
  })
})
