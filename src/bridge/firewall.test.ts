import { describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { formatTable } from '../nftables/format.ts'
import type { TableState } from '../nftables/objects.ts'
import type { GuardedNetwork, PublishingEndpoint } from './firewall-plan.ts'
import { compileFirewall } from './firewall.ts'
import { parsePublication } from './publication.ts'

const network: GuardedNetwork = {
  name: 'default',
  bridge: 'fl0',
  internal: false,
  icc: true,
  gatewayModes: { 4: 'nat', 6: 'nat' },
}
const endpoint: PublishingEndpoint = {
  network: 'default',
  ips: [parseIp('10.7.0.2'), parseIp('fd00:7::2')],
  published: [
    { hostPort: 8080, port: 80, protocol: 'tcp' },
    { hostIp: '127.0.0.1', hostPort: 53, port: 5353, protocol: 'udp' },
    { hostIp: '::', hostPort: 8081, port: 81, protocol: 'tcp' },
  ].map(parsePublication),
}

/** The elements of each set that has any, as nft prints them. */
function elementsOf(networks: readonly GuardedNetwork[], endpoints: readonly PublishingEndpoint[]): string[] {
  const { sets, elements } = compileFirewall(networks, endpoints)
  return sets
    .filter(({ name }) => (elements.get(name)?.size ?? 0) > 0)
    .map((set) => {
      const table: TableState = { family: 'inet', name: 't', chains: [], sets: [set], elements }
      const text = formatTable(table)
      return `${set.name}: ${/elements = \{ (.*) \}/s.exec(text)?.[1]?.replaceAll(/\s+/g, ' ') ?? ''}`
    })
}

describe('compileFirewall()', () => {
  test('a published port is one element per family, of the address or of all', () => {
    expect(elementsOf([network], [endpoint])).toEqual([
      'published-4: 127.0.0.1 . udp . 53 : 10.7.0.2 . 5353',
      'published-any-4: tcp . 8080 : 10.7.0.2 . 80',
      'hairpin-4: 10.7.0.2 . 10.7.0.2',
      'published-any-6: tcp . 8080 : fd00:7::2 . 80, tcp . 8081 : fd00:7::2 . 81',
      'hairpin-6: fd00:7::2 . fd00:7::2',
      'same-bridge: "fl0" . "fl0"',
    ])
  })

  test('in gateway mode routed, the port is open at the pod, and nothing is translated', () => {
    const routed: GuardedNetwork = { ...network, gatewayModes: { 4: 'nat', 6: 'routed' } }
    expect(elementsOf([routed], [endpoint])).toEqual([
      'published-4: 127.0.0.1 . udp . 53 : 10.7.0.2 . 5353',
      'published-any-4: tcp . 8080 : 10.7.0.2 . 80',
      'hairpin-4: 10.7.0.2 . 10.7.0.2',
      'open-ports-6: fd00:7::2 . tcp . 80, fd00:7::2 . tcp . 81',
      'routed-6: "fl0"',
      'same-bridge: "fl0" . "fl0"',
    ])
  })

  test('internal and isolated networks are closed and publish nothing', () => {
    expect(elementsOf([{ ...network, internal: true, icc: false }], [endpoint])).toEqual([
      'closed-4: "fl0"',
      'closed-6: "fl0"',
      'same-bridge: "fl0" . "fl0"',
      'no-icc: "fl0"',
    ])
    expect(elementsOf([{ ...network, gatewayModes: { 4: 'isolated', 6: 'isolated' } }], [endpoint])).toEqual([
      'closed-4: "fl0"',
      'closed-6: "fl0"',
      'same-bridge: "fl0" . "fl0"',
    ])
  })

  test('the rules do not depend on networks and ports, and no chain has a policy of its own', () => {
    const without = compileFirewall([], [])
    const withAll = compileFirewall([network], [endpoint])
    expect(withAll.chains).toEqual(without.chains)
    expect(withAll.sets).toEqual(without.sets)
  })
})
