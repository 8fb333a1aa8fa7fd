import { describe, expect, test } from 'vitest'
import { parseCidr } from '../net/cidr.ts'
import { parseIp, type IpFamily } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { compileIptablesFirewall, isBridgeChain } from './iptables-rules.ts'
import type { Lease } from './leases.ts'
import { networkDefaults, type Network } from './network.ts'
import { parsePublication } from './publication.ts'

const network: Network = {
  ...networkDefaults,
  name: 'default',
  bridge: 'fl0',
  mac: parseMac('02:00:00:00:00:01'),
  subnets: [
    { cidr: parseCidr('10.7.0.0/16'), gateway: parseIp('10.7.0.1') },
    { cidr: parseCidr('fd07::/64'), gateway: parseIp('fd07::1') },
  ],
  mtu: 1500,
}
const lease: Lease = {
  owner: 'pod default/web',
  network: 'default',
  ips: [parseIp('10.7.0.2'), parseIp('fd07::2')],
  mac: parseMac('02:00:00:00:00:02'),
  netns: '/run/netns/web',
  bootId: 'boot',
  published: [
    { hostPort: 8080, port: 80, protocol: 'tcp' },
    { hostIp: '127.0.0.1', hostPort: 53, port: 5353, protocol: 'udp' },
  ].map(parsePublication),
}

/** Chains as `CHAIN: RULE`, of one table; chains without rules are left out. */
function rulesOf(
  table: 'raw' | 'mangle' | 'nat',
  { family = 4, guardSources = false, ...more }: Partial<Network> & { family?: IpFamily; guardSources?: boolean } = {},
): string[] {
  const tables = compileIptablesFirewall([{ ...network, ...more }], [lease], { family, guardSources })
  const { chains } = tables.find((one) => one.table === table)!
  return [...chains].flatMap(([chain, rules]) => [...rules].map((rule) => `${chain.replace('FAIRLEAD-', '')}: ${rule}`))
}

describe('compileIptablesFirewall()', () => {
  test('published ports of one address come before those of all', () => {
    expect(rulesOf('nat')).toEqual([
      'PUBLISHED: -d 127.0.0.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.7.0.2:5353',
      'PUBLISHED: -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.7.0.2:80',
      'MASQUERADE: -s 10.7.0.2/32 -d 10.7.0.2/32 -m conntrack --ctstate DNAT -j MASQUERADE --random-fully',
      'MASQUERADE: -s 127.0.0.0/8 -o fl0 -j MASQUERADE --random-fully',
      'MASQUERADE: -o fl0 -j RETURN',
      'MASQUERADE: -s 10.7.0.0/16 -j MASQUERADE --random-fully',
    ])
    expect(rulesOf('nat', { family: 6, masquerade: [parseIp('2001:db8::7')] })).toEqual([
      'PUBLISHED: -p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd07::2]:80',
      'MASQUERADE: -s fd07::2/128 -d fd07::2/128 -m conntrack --ctstate DNAT -j MASQUERADE --random-fully',
      'MASQUERADE: -o fl0 -j RETURN',
      'MASQUERADE: -s fd07::/64 -j SNAT --to-source 2001:db8::7',
    ])
  })

  test('what passes returns to the chains of others, what is dropped is dropped', () => {
    const established = 'FORWARD: -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN'
    const translated = '-m conntrack --ctstate DNAT -j RETURN'
    const common = [`TO-PODS: ${translated}`, 'TO-PODS: -j DROP', `NO-ICC: ${translated}`, 'NO-ICC: -j DROP']
    const toPods = 'FORWARD: -o fl0 -g FAIRLEAD-TO-PODS'
    expect(rulesOf('mangle')).toEqual([established, 'FORWARD: -i fl0 -o fl0 -j RETURN', toPods, ...common])
    expect(rulesOf('mangle', { icc: false })).toEqual([
      established,
      'FORWARD: -i fl0 -o fl0 -g FAIRLEAD-NO-ICC',
      toPods,
      ...common,
    ])
    expect(rulesOf('mangle', { internal: true })).toEqual([
      established,
      'FORWARD: -i fl0 -o fl0 -j RETURN',
      'FORWARD: -i fl0 -j DROP',
      'FORWARD: -o fl0 -j DROP',
      toPods,
      ...common,
    ])
  })

  test('in gateway mode routed, ports are open at the pod, and nothing is translated', () => {
    const routed = { gatewayModes: { 4: 'nat', 6: 'routed' }, family: 6 } as const
    const port = '-d fd07::2/128 -p tcp -m tcp --dport 80 -j RETURN'
    expect(rulesOf('mangle', routed)).toEqual(
      expect.arrayContaining(['TO-PODS: -o fl0 -p ipv6-icmp -j RETURN', `TO-PODS: ${port}`, `NO-ICC: ${port}`]),
    )
    expect(rulesOf('nat', routed)).toEqual(['MASQUERADE: -o fl0 -j RETURN'])
  })

  test('what pods send is looked at only where nothing else does', () => {
    expect(rulesOf('raw')).toEqual(['LOOPBACK: -i fl0 -j DROP'])
    expect(rulesOf('raw', { family: 6, guardSources: true })).toEqual([
      'SRC-fl0: -s fd07::2/128 -m mac --mac-source 02:00:00:00:00:02 -j RETURN',
      'SRC-fl0: -s fe80::ff:fe00:2/128 -m mac --mac-source 02:00:00:00:00:02 -j RETURN',
      'SRC-fl0: -s ::/128 -m mac --mac-source 02:00:00:00:00:02 -j RETURN',
      'SRC-fl0: -j DROP',
      'SOURCES: -i fl0 -g FAIRLEAD-SRC-fl0',
    ])
  })

  test.each(['fl+', 'fl"0', "fl'0", 'fl;0', 'fl\\0'])('a bridge %s cannot stand in rules', (bridge) => {
    expect(() => rulesOf('nat', { bridge })).toThrow(`bridge "${bridge}" of network default cannot stand in iptables`)
  })

  test('the longest name of a bridge makes a chain that iptables takes', () => {
    const chains = compileIptablesFirewall([{ ...network, bridge: 'a'.repeat(15) }], [], {
      family: 4,
      guardSources: true,
    })
    const names = chains.flatMap((table) => [...table.chains.keys()])
    for (const name of names) {
      expect(name.length).toBeLessThanOrEqual(28)
      expect(isBridgeChain(name)).toBe(true)
    }
    expect(isBridgeChain('FAIRLEAD-SERVICES')).toBe(false)
  })
})
