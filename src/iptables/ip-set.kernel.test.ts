import { describe, expect, test } from 'vitest'
import { createAnonymousNetns } from '../linux/netns.ts'
import { ipFromBigInt, parseIp, type IpFamily } from '../net/ip-address.ts'
import { FakeIpSets } from './fake-ip-sets.ts'
import { openIpSets } from './ip-set.ts'

/** The contract, on the fake and on the kernel. */
describe.each([
  ['the kernel', (netns) => openIpSets({ netns })],
  ['the fake', () => new FakeIpSets()],
] satisfies [string, (netns: ReturnType<typeof createAnonymousNetns>) => Disposable][])('IpSets of %s', (_, open) => {
  test.each<[IpFamily, string]>([
    [4, '10.96.0.0'],
    [6, 'fd00:96::'],
  ])('hold addresses of IPv%i, many at a time', async (family, base) => {
    using netns = createAnonymousNetns()
    using sets = open(netns)
    const set = { name: 'services', family }
    const first = family === 4 ? 0x0a60_0000n : 0xfd00_0096n << 96n
    const addresses = Array.from({ length: 4000 }, (_, i) => ipFromBigInt(first + BigInt(i), family))
    expect(addresses[0]).toBe(parseIp(base))
    expect(await sets.read('services')).toBeUndefined()
    expect(await sets.size('services')).toBeUndefined()
    await sets.create(set)
    expect(await sets.read('services')).toEqual(new Set())
    await sets.add(set, addresses)
    expect(await sets.read('services')).toEqual(new Set(addresses))
    expect(await sets.size('services')).toBe(4000)
    await sets.create(set)
    await sets.add(set, addresses.slice(0, 2))
    await sets.remove(set, addresses.slice(1))
    await sets.remove(set, addresses.slice(1, 2))
    expect(await sets.read('services')).toEqual(new Set(addresses.slice(0, 1)))
    await sets.destroy('services')
    await sets.destroy('services')
    expect(await sets.read('services')).toBeUndefined()
  })
})
