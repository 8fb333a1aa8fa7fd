import { describe, expect, test } from 'vitest'
import { parseNetwork } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { NetworkPools } from './network-pools.ts'
import { networkDefaults, type Network } from './network.ts'

const network: Network = {
  ...networkDefaults,
  name: 'a',
  bridge: 'fl-a',
  mac: parseMac('02:00:00:00:00:01'),
  mtu: 1500,
  subnets: [
    { cidr: parseNetwork('10.1.0.0/30'), gateway: parseIp('10.1.0.1') },
    {
      cidr: parseNetwork('10.2.0.0/24'),
      gateway: parseIp('10.2.0.1'),
      range: parseNetwork('10.2.0.128/30'),
      aux: [parseIp('10.2.0.129')],
    },
    { cidr: parseNetwork('fd00:1::/64'), gateway: parseIp('fd00:1::1') },
  ],
}
const pools = () => new NetworkPools([network], { leases: [], serviceAddresses: [] })

describe('NetworkPools', () => {
  test('gives one address per family, of the next subnet when one is full, within its range and without auxiliary ones', () => {
    const own = pools()
    expect(Array.from({ length: 4 }, () => own.allocate('a', []))).toEqual([
      ['10.1.0.2', 'fd00:1::2'],
      ['10.2.0.128', 'fd00:1::3'],
      ['10.2.0.130', 'fd00:1::4'],
      ['10.2.0.131', 'fd00:1::5'],
    ])
    expect(() => own.allocate('a', [])).toThrow('no free address in 10.2.0.128/30: 3 of 3 are in use')
    expect(own.use('a').map(({ used }) => used)).toEqual([1, 3, 4])
    own.release('a', parseIp('10.1.0.2'))
    expect(own.allocate('a', [])[0]).toBe('10.1.0.2')
  })

  test('gives static addresses outside of the range, too, and takes the other family from the pool', () => {
    const own = pools()
    expect(own.allocate('a', [parseIp('10.2.0.77')])).toEqual(['10.2.0.77', 'fd00:1::2'])
    expect(own.allocate('a', [parseIp('fd00:1::99')])).toEqual(['10.1.0.2', 'fd00:1::99'])
  })

  test.each([
    ['10.2.0.77', 'is in use already'],
    ['10.2.0.129', "is the network's own"],
    ['10.2.0.255', "is the network's own"],
    ['10.3.0.1', 'is in no subnet of network a (expected an address in 10.1.0.0/30 or 10.2.0.0/24 or fd00:1::/64)'],
  ])('refuses %s, and takes nothing then', (ip, message) => {
    const own = pools()
    own.allocate('a', [parseIp('10.2.0.77')])
    const before = own.use('a')
    expect(() => own.allocate('a', [parseIp('fd00:1::50'), parseIp(ip)])).toThrow(message)
    expect(own.use('a')).toEqual(before)
  })
})
