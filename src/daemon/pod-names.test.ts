import { describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { type NamedEndpoint, PodNames } from './pod-names.ts'

/** `network owner ips [aliases]` */
function endpoints(...lines: readonly string[]): ReadonlyMap<string, NamedEndpoint> {
  return new Map(
    lines.map((line) => {
      const [network = '', kind = '', name = '', ips = '', aliases] = line.split(' ')
      const owner = `${kind} ${name}` as NamedEndpoint['owner']
      const parsed = ips.split(',').map((ip) => parseIp(ip))
      return [`${network}/${owner}`, { network, owner, ips: parsed, ...(aliases && { aliases: aliases.split(',') }) }]
    }),
  )
}

describe('PodNames.seenFrom()', () => {
  const names = new PodNames({
    leaseRevision: 1,
    leases: endpoints(
      'front pod default/web-1 10.1.0.2,fd01::2',
      'front pod default/web-2 10.1.0.3 shop,WWW',
      'back pod default/web-2 10.2.0.3',
      'back pod default/db 10.2.0.4 store',
      'back pod default/db-2 10.2.0.5 store',
      'other pod default/alone 10.3.0.2',
      'front pod test/web-1 10.1.0.9',
      'front pod test/tool 10.1.0.10',
      'front cni 4711 10.1.0.20',
    ),
  })
  test.each([
    ['by name', '10.1.0.2', 'web-2', ['10.1.0.3']],
    ['by alias, in any case', '10.1.0.2', 'www', ['10.1.0.3']],
    ['from its IPv6 address', 'fd01::2', 'web-2', ['10.1.0.3']],
    ['of all networks of a pod', '10.1.0.3', 'db', ['10.2.0.4']],
    ['whichever of its addresses it asks from', '10.2.0.3', 'web-1', ['10.1.0.2', 'fd01::2']],
    ['at each network that both are in', '10.1.0.3', 'web-2', ['10.1.0.3', '10.2.0.3']],
    ['that share an alias, all of them', '10.2.0.4', 'store', ['10.2.0.4', '10.2.0.5']],
    ['of its own namespace first', '10.1.0.10', 'web-1', ['10.1.0.9']],
    ['of other namespaces', '10.1.0.2', 'tool', ['10.1.0.10']],
    ['not of networks that it is not in', '10.1.0.2', 'db', []],
    ['not by an alias of another network', '10.2.0.4', 'shop', []],
  ])('finds pods %s', (_what, client, label, expected) => {
    expect(names.seenFrom(parseIp(client))?.addressesOf(label)).toEqual(expected)
  })

  test.each(['192.0.2.7', '10.1.0.20'])('knows that %s is no pod', (client) => {
    expect(names.seenFrom(parseIp(client))).toBeUndefined()
  })

  test('sees a change of the leases with the next question, and does nothing without one', () => {
    let reads = 0
    const list = {
      leaseRevision: 1,
      current: endpoints('front pod default/a 10.1.0.2'),
      get leases() {
        reads++
        return this.current
      },
    }
    const changing = new PodNames(list)
    const ask = () => changing.seenFrom(parseIp('10.1.0.2'))?.addressesOf('b')
    expect([ask(), ask(), reads]).toEqual([[], [], 1])
    list.current = endpoints('front pod default/a 10.1.0.2', 'front pod default/b 10.1.0.3')
    list.leaseRevision = 2
    expect([ask(), reads]).toEqual([['10.1.0.3'], 2])
    list.current = endpoints()
    list.leaseRevision = 3
    expect(ask()).toBeUndefined()
  })
})
