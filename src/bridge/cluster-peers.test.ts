import { describe, expect, test } from 'vitest'
import { parseCidr, parseNetwork } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { formatTable } from '../nftables/format.ts'
import { compileBridgeTable } from './bridge-table.ts'
import type { ClusterPeers } from './cluster-peers.ts'
import { compileIptablesFirewall } from './iptables-rules.ts'
import { networkDefaults, type Network } from './network.ts'

const network: Network = {
  ...networkDefaults,
  name: 'default',
  bridge: 'fl0',
  mac: parseMac('02:00:00:00:00:01'),
  subnets: [{ cidr: parseCidr('10.1.0.0/24'), gateway: parseIp('10.1.0.1') }],
  mtu: 1500,
}
const other: Network = {
  ...network,
  name: 'backend',
  bridge: 'fl-backend',
  subnets: [{ cidr: parseCidr('172.30.0.0/24'), gateway: parseIp('172.30.0.1') }],
}
const peers: ClusterPeers = {
  network: 'default',
  pods: [parseNetwork('10.2.0.0/24'), parseNetwork('fd10:2::/64')],
  nodes: [parseIp('192.168.56.12'), parseIp('fd56::12')],
}

describe('peers of a cluster', () => {
  test('are in the sets of the table, whose rules are there without them, too', () => {
    const text = formatTable(compileBridgeTable([network, other], [], peers))
    for (const part of [
      /set cluster \{[^}]*elements = \{ "fl0" \}/,
      /set peer-pods-4 \{[^}]*elements = \{ 10\.2\.0\.0\/24 \}/,
      /set peer-nodes-4 \{[^}]*elements = \{ 192\.168\.56\.12 \}/,
      /set peer-pods-6 \{[^}]*elements = \{ fd10:2::\/64 \}/,
      /set cluster-pods-4 \{[^}]*elements = \{ 10\.1\.0\.0\/24 \}/,
    ]) {
      expect(text).toMatch(part)
    }
    const alone = compileBridgeTable([network, other], [])
    expect(alone.chains).toEqual(compileBridgeTable([network, other], [], peers).chains)
    expect(formatTable(alone)).not.toContain('10.2.0.0')
  })

  test('are let in before the rest is dropped, and left out before the rest is masqueraded', () => {
    const text = formatTable(compileBridgeTable([network], [], peers))
    const at = (part: string): number => {
      expect(text).toContain(part)
      return text.indexOf(part)
    }
    expect(at('oifname @cluster ip saddr @peer-pods-4 accept')).toBeLessThan(at('oifname @bridges drop'))
    expect(at('ip saddr @cluster-pods-4 ip daddr @peer-pods-4 accept')).toBeLessThan(
      at('ip saddr @masquerade-4 oifname != @bridges masquerade'),
    )
  })

  test('are let in by iptables, too, and into their network only', () => {
    const tables = compileIptablesFirewall([network, other], [], { family: 4, guardSources: false, peers })
    const rules = (table: string, chain: string): string[] => [
      ...(tables.find((one) => one.table === table)?.chains.get(chain) ?? []),
    ]
    expect(rules('mangle', 'FAIRLEAD-TO-PODS')).toEqual([
      '-s 10.2.0.0/24 -o fl0 -j RETURN',
      '-s 192.168.56.12/32 -o fl0 -j RETURN',
      '-m conntrack --ctstate DNAT -j RETURN',
      '-j DROP',
    ])
    expect(rules('nat', 'FAIRLEAD-MASQUERADE').slice(-3)).toEqual([
      '-s 10.1.0.0/24 -d 10.2.0.0/24 -j RETURN',
      '-s 10.1.0.0/24 -j MASQUERADE --random-fully',
      '-s 172.30.0.0/24 -j MASQUERADE --random-fully',
    ])
  })
})
