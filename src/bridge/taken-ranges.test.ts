import { array, assert, integer, nat, property, record, type Arbitrary } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cidrsOverlap, networkOf, parseCidr, parseNetwork, type Cidr } from '../net/cidr.ts'
import { ipFromBigInt } from '../net/ip-address.ts'
import { pickSubnet } from './subnet-pool.ts'
import { TakenRanges } from './taken-ranges.ts'

const named = (text: string) => ({ range: parseCidr(text), what: text })
/** Few addresses and long prefixes, so that overlaps are common but not certain. */
const anyCidr: Arbitrary<Cidr> = record({ value: nat(4095), prefix: integer({ min: 22, max: 32 }) }).map(
  ({ value, prefix }) => networkOf({ address: ipFromBigInt(BigInt(value), 4), prefix }),
)

describe('TakenRanges', () => {
  test('finds exactly what overlaps, whichever way it was told', () => {
    assert(
      property(array(anyCidr), array(anyCidr), anyCidr, (first, later, asked) => {
        const taken = new TakenRanges(first.map((range) => ({ range, what: 'x' })))
        for (const range of later) taken.add(range, 'x')
        const expected = [...first, ...later].some((range) => cidrsOverlap(range, asked))
        return (taken.find(asked) !== undefined) === expected
      }),
    )
  })

  test('says what overlaps, and keeps the families apart', () => {
    const taken = new TakenRanges([named('10.0.0.0/8'), named('::/32')])
    expect(taken.find(parseNetwork('10.1.0.0/16'))).toBe('10.0.0.0/8')
    expect(taken.find(parseNetwork('0.0.0.0/8'))).toBeUndefined()
    expect(taken.find(parseNetwork('::a00:0/104'))).toBe('::/32')
  })

  test('firstFree() picks subnet after subnet around what is taken, until a pool is full', () => {
    const pool = parseNetwork('10.128.0.0/13')
    const taken = new TakenRanges([named('10.128.16.0/24'), named('10.129.0.0/16'), named('10.129.7.0/24')])
    const picked: Cidr[] = []
    for (let free = taken.firstFree(pool, 20); free; free = taken.firstFree(pool, 20)) {
      expect(taken.find(free)).toBeUndefined()
      taken.add(free, `number ${picked.length}`)
      picked.push(free)
    }
    expect(picked).toHaveLength(128 - 1 - 16)
    expect(picked.slice(0, 2)).toEqual([parseCidr('10.128.0.0/20'), parseCidr('10.128.32.0/20')])
  })

  test('2,700 networks have their subnets of the pools, each apart from the others', () => {
    const taken = new TakenRanges([named('172.29.16.0/24')])
    for (let i = 0; i < 2700; i++) {
      const subnet = pickSubnet(4, { network: `n${i}`, machineId: 'm', taken, previous: [] })
      if (!subnet) throw new Error(`no subnet for network ${i}`)
      taken.add(subnet, `n${i}`)
    }
    expect(taken.find(parseNetwork('10.32.0.0/11'))).toMatch(/^n\d+$/)
  })
})
