import { array, assert, constant, integer, nat, oneof, property, record } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { addressAt, cidrContains, parseCidr } from '../net/cidr.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { AddressPool, AddressUnavailableError, PoolExhaustedError } from './ipam.ts'

const subnet = parseCidr('10.9.0.0/24')
const gateway = parseIp('10.9.0.1')

describe('AddressPool', () => {
  test('allocate() begins behind the gateway and goes on in order', () => {
    const pool = new AddressPool(subnet, [gateway])
    expect([pool.allocate(), pool.allocate(), pool.allocate()]).toEqual(['10.9.0.2', '10.9.0.3', '10.9.0.4'])
  })

  test('allocate() uses a released address again only after all others', () => {
    const pool = new AddressPool(parseCidr('10.9.0.0/29'), [gateway])
    const first = pool.allocate()
    pool.release(first)
    const next = Array.from({ length: 4 }, () => pool.allocate())
    expect(next).not.toContain(first)
    expect(pool.allocate()).toBe(first)
  })

  test.each([
    ['10.9.0.0/29', 5],
    ['10.9.0.0/30', 1],
    ['10.9.0.0/24', 253],
    ['10.0.0.0/8', 65_534],
    ['fd00::/64', 65_534],
    ['fd00::/126', 2],
  ])('a pool of %s with a gateway hands out %i addresses', (text, size) => {
    const cidr = parseCidr(text)
    const pool = new AddressPool(cidr, [addressAt(cidr, 1n)])
    expect(pool.size).toBe(size)
    const seen = new Set<IpAddress>()
    for (let i = 0; i < size; i++) seen.add(pool.allocate())
    expect(seen.size).toBe(size)
    expect(() => pool.allocate()).toThrow(PoolExhaustedError)
  })

  test('the exhaustion error says how full the pool is', () => {
    const pool = new AddressPool(parseCidr('10.9.0.0/30'), [gateway])
    pool.allocate()
    expect(() => pool.allocate()).toThrow('no free address in 10.9.0.0/30: 1 of 1 are in use')
  })

  test.each([
    ['10.9.0.1', "is the network's own"],
    ['10.9.0.0', "is the network's own"],
    ['10.9.0.255', "is the network's own"],
    ['10.9.1.7', 'is not in 10.9.0.0/24'],
    ['fd00::7', 'is not in 10.9.0.0/24'],
    ['10.9.0.2', 'is in use already'],
  ])('reserve() refuses %s: %s', (ip, why) => {
    const pool = new AddressPool(subnet, [gateway])
    pool.allocate()
    expect(() => pool.reserve(parseIp(ip))).toThrow(AddressUnavailableError)
    expect(() => pool.reserve(parseIp(ip))).toThrow(why)
  })

  test('reserve() takes a static address far behind the bitmap once', () => {
    const pool = new AddressPool(parseCidr('fd00::/64'))
    const far = parseIp('fd00::dead:beef')
    pool.reserve(far)
    expect(() => pool.reserve(far)).toThrow('in use')
    pool.release(far)
    pool.reserve(far)
    expect(pool.used).toBe(1)
  })

  test('no two holders ever have the same address, whatever is asked and released', () => {
    const step = oneof(
      constant({ kind: 'allocate' as const }),
      record({ kind: constant('release' as const), pick: nat(100) }),
      record({ kind: constant('reserve' as const), index: integer({ min: 0, max: 70 }) }),
    )
    assert(
      property(integer({ min: 26, max: 30 }), array(step, { maxLength: 200 }), (prefix, steps) => {
        const cidr = { address: parseIp('10.9.0.0'), prefix }
        const pool = new AddressPool(cidr, [gateway])
        const held = new Set<IpAddress>()
        for (const step of steps) {
          if (step.kind === 'release') {
            const ip = [...held][step.pick % Math.max(1, held.size)]
            if (ip === undefined) continue
            pool.release(ip)
            held.delete(ip)
            continue
          }
          let ip: IpAddress
          try {
            if (step.kind === 'allocate') ip = pool.allocate()
            else pool.reserve((ip = addressAt(cidr, BigInt(step.index))))
          } catch (error) {
            if (error instanceof PoolExhaustedError) expect(held.size).toBe(pool.size)
            else expect(error).toBeInstanceOf(AddressUnavailableError)
            continue
          }
          expect(held).not.toContain(ip)
          expect(cidrContains(cidr, ip)).toBe(true)
          expect(ip).not.toBe(gateway)
          held.add(ip)
        }
        expect(pool.used).toBe(held.size)
      }),
      { numRuns: 200 },
    )
  })
})
