import { describe, expect, test } from 'vitest'
import { parseName } from '../dns-message/name.ts'
import { reverseKey } from '../dns-message/reverse-name.ts'
import { type ObjectKey, objectKey } from '../model/object-key.ts'
import { parseIp } from '../net/ip-address.ts'
import { ReverseIndex } from './reverse-index.ts'

const [web, db, cache] = ['web', 'db', 'cache'].map((name) => objectKey({ namespace: 'shop', name })) as [
  ObjectKey,
  ObjectKey,
  ObjectKey,
]
const claimed = (clusterIPs: readonly string[], endpoints: readonly string[]) => ({
  clusterIPs: clusterIPs.map(parseIp),
  endpoints: endpoints.map(parseIp),
})
const ask = (index: ReverseIndex, name: string): string =>
  [...index.services(parseName(name).key), index.hasBelow(parseName(name).key) ? 'below' : ''].join(' ').trim()

describe('ReverseIndex', () => {
  const index = new ReverseIndex()
  index.add(web, claimed(['10.96.0.7', 'fd00::7'], ['10.0.0.1', '10.0.0.2']))
  index.add(db, claimed([], ['10.0.0.2', '10.96.0.7', 'fd00::7']))
  index.add(cache, claimed([], ['10.0.0.2']))
  const v6 = (last: string): string => `${last}${'.0'.repeat(27)}.0.0.d.f.ip6.arpa`

  test.for([
    ['7.0.96.10.in-addr.arpa', 'shop/web'],
    ['1.0.0.10.in-addr.arpa', 'shop/web'],
    ['2.0.0.10.in-addr.arpa', 'shop/web shop/db shop/cache'],
    [v6('7'), 'shop/web'],
    [v6('F').replace('d.f', 'D.F'), ''],
    [v6('7').replace('d.f', 'D.F'), 'shop/web'],
    ['0.0.10.in-addr.arpa', 'below'],
    ['10.in-addr.arpa', 'below'],
    ['d.f.ip6.arpa', 'below'],
    ['01.0.0.10.in-addr.arpa', ''],
    ['1x.0.0.10.in-addr.arpa', ''],
    ['257.0.0.10.in-addr.arpa', ''],
    ['1.0.0.10.ip6.arpa', ''],
    ['3.0.0.10.in-addr.arpa', ''],
    ['9.1.0.0.10.in-addr.arpa', ''],
    ['in-addr.arpa', ''],
  ] as const)('services() and hasBelow() of %s: "%s"', ([name, expected]) => {
    expect(ask(index, name)).toBe(expected)
  })

  test('remove() takes back what was added, to the last name above it', () => {
    const index = new ReverseIndex()
    const shared = claimed([], ['10.0.0.2'])
    for (const service of [web, db, cache]) index.add(service, shared)
    index.remove(db, shared)
    expect(index.services(reverseKey(parseIp('10.0.0.2')))).toEqual([web, cache])
    index.remove(web, shared)
    expect(ask(index, '2.0.0.10.in-addr.arpa')).toBe('shop/cache')
    index.remove(cache, shared)
    expect(ask(index, '2.0.0.10.in-addr.arpa')).toBe('')
    expect(ask(index, '10.in-addr.arpa')).toBe('')
  })
})
