import { assert, property, uint8Array } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isAtOrBelow, labelsOfKey, nameOfLabels, nameText, parentKey, parseName, readName } from './name.ts'

describe('parseName()', () => {
  for (const [text, printed] of [
    ['cart.shop', 'cart.shop.'],
    ['Cart.SHOP.', 'Cart.SHOP.'],
    ['.', '.'],
    ['a\\.b.c', 'a\\.b.c.'],
    ['a\\255', 'a\\255.'],
  ] as const)
    test(`reads ${text}`, () => expect(nameText(parseName(text))).toBe(printed))

  for (const text of ['a..b', '.a', 'x'.repeat(64), `${'x'.repeat(63)}.`.repeat(4), 'a\\300', 'a\\'])
    test(`refuses ${text.slice(0, 20)}`, () => expect(() => parseName(text)).toThrow(/is not a domain name/))
})

describe('readName()', () => {
  const header = '00'.repeat(12)
  for (const [what, hex, at] of [
    ['a pointer to itself', 'c00c', 12],
    ['a pointer forwards', 'c00e0000', 12],
    ['a pointer into the header', 'c000', 12],
    ['pointers in a circle', '0161c00c', 12],
    ['label type 01', '416100', 12],
    ['label type 10', '816100', 12],
    ['a label past the end', '0561', 12],
    ['no end', '0161', 12],
    ['half a pointer', 'c0', 12],
    ['256 octets', `${`3f${'61'.repeat(63)}`.repeat(4)}00`, 12],
  ] as const)
    test(`refuses ${what}`, () => expect(() => readName(Buffer.from(header + hex, 'hex'), at)).toThrow(/at octet/))

  test('follows pointers and says where the name ends in place', () => {
    const message = Buffer.from(`${header}0473686f70000443617274c00c`, 'hex')
    const { name, end } = readName(message, 18)
    expect(nameText(name)).toBe('Cart.shop.')
    expect(end).toBe(25)
  })

  test('ends on any bytes', () => {
    assert(
      property(uint8Array({ minLength: 13, maxLength: 600 }), (bytes) => {
        try {
          expect(readName(bytes, 12).name.wire.length).toBeLessThanOrEqual(255)
        } catch (error) {
          expect((error as Error).name).toBe('MessageError')
        }
      }),
    )
  })
})

describe('names as keys', () => {
  test('names are equal whatever their case', () => expect(parseName('A.b').key).toBe(parseName('a.B').key))
  test('a dot inside of a label is no border', () => expect(parseName('a\\.b').key).not.toBe(parseName('a.b').key))
  test('labelsOfKey() undoes nameOfLabels()', () =>
    expect(labelsOfKey(nameOfLabels(['a', 'b.c', 'd'])?.key ?? '')).toEqual(['a', 'b.c', 'd']))
  test('nameOfLabels() has no name with an empty label', () => expect(nameOfLabels(['', 'a'])).toBeUndefined())
  test('parentKey() goes up to the root', () => {
    expect(parentKey(parseName('a.b').key)).toBe(parseName('b').key)
    expect(parentKey('\0')).toBeUndefined()
  })

  for (const [name, zone, below] of [
    ['cluster.local', 'cluster.local', true],
    ['a.cluster.local', 'cluster.local', true],
    ['mycluster.local', 'cluster.local', false],
    ['local', 'cluster.local', false],
    // The octets of the zone inside of one label.
    ['ab\\007cluster\\005local', 'cluster.local', false],
  ] as const)
    test(`isAtOrBelow() says ${below} to ${name} in ${zone}`, () =>
      expect(isAtOrBelow(parseName(name).key, parseName(zone).key)).toBe(below))
})
