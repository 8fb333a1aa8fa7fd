import { firewallSets } from '../bridge/firewall.ts'
import { bridgeChains } from '../bridge/iptables-rules.ts'
import type { Ruleset } from '../iptables/objects.ts'
import { ipFamilyOf, ipFromBytes, parseIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { registerBytes } from '../nftables/keys.ts'
import type { TableState } from '../nftables/objects.ts'
import type { TransportAddress } from '../net/transport-address.ts'

/** What the kernel has of the networks' firewall, whichever it is. */
export interface FirewallFacts {
  /** The table `inet fairlead-bridge`; undefined: there is none. */
  readonly bridge: Pick<TableState, 'elements'> | undefined
  /** The rules of iptables by family, where the networks have chains there. */
  readonly iptables?: ReadonlyMap<IpFamily, Ruleset> | undefined
}

/** A published port in the kernel. */
export interface PublishedPort {
  /** The element or the rule that has it. */
  readonly what: string
  readonly ip: IpAddress
  readonly port: number
}

/** Where the kernel decides about published ports and who reaches pods: `inet fairlead-bridge`, or chains of iptables. */
export function firewallPlaces(facts: FirewallFacts): { readonly published: string; readonly forward: string } {
  if (!facts.iptables) return { published: 'inet fairlead-bridge', forward: 'filter forward, inet fairlead-bridge' }
  return {
    published: `iptables ${bridgeChains.published}`,
    forward: `mangle forward, iptables ${bridgeChains.forward}`,
  }
}

/** The published port that takes a packet: of this address, then of all addresses of the host. */
export function findPublished(to: TransportAddress, { bridge, iptables }: FirewallFacts): PublishedPort | undefined {
  const family = ipFamilyOf(to.ip)
  if (iptables) return findRule(to, iptables.get(family))
  const { published, publishedAny } = firewallSets[family]
  const anyKey = registerBytes({ protocol: to.protocol }, { port: to.port })
  for (const [{ name }, key] of [
    [published, registerBytes(to) + anyKey],
    [publishedAny, anyKey],
  ] as const) {
    const data = bridge?.elements.get(name)?.get(key)
    if (data !== undefined) return { what: `map ${name}`, ...readTarget(data, family) }
  }
  return undefined
}

/** What keeps packets from outside out of a bridge; undefined: nothing does. */
export function closedBy(bridge: string, family: IpFamily, facts: FirewallFacts): string | undefined {
  if (facts.iptables) {
    const rule = `-o ${bridge} -j DROP`
    return rulesOf(facts.iptables.get(family), 'mangle', bridgeChains.forward).includes(rule)
      ? `rule ${rule}`
      : undefined
  }
  const { closed } = firewallSets[family]
  return facts.bridge?.elements.get(closed.name)?.has(registerBytes({ name: bridge }))
    ? `set ${closed.name}`
    : undefined
}

/** Rules with an address come first, so the first that matches is the one. */
function findRule({ ip, port, protocol }: TransportAddress, rules: Ruleset | undefined): PublishedPort | undefined {
  for (const rule of rulesOf(rules, 'nat', bridgeChains.published)) {
    const [, at, proto, dport, target, targetPort] =
      /^(?:-d (\S+)\/\d+ )?-p (\S+) -m \S+ --dport (\d+) -j DNAT --to-destination \[?([^\]]+?)\]?:(\d+)$/.exec(rule) ??
      []
    if (proto !== protocol || Number(dport) !== port || (at !== undefined && parseIp(at) !== ip)) continue
    return { what: `rule ${rule}`, ip: parseIp(target ?? ''), port: Number(targetPort) }
  }
  return undefined
}

function rulesOf(rules: Ruleset | undefined, table: 'nat' | 'mangle', chain: string): readonly string[] {
  return rules?.get(table)?.get(chain) ?? []
}

/** Data of a map: an address, and a port in the next register. */
function readTarget(data: string, family: IpFamily): { ip: IpAddress; port: number } {
  const bytes = Buffer.from(data, 'latin1')
  const size = family === 4 ? 4 : 16
  return { ip: ipFromBytes(bytes.subarray(0, size)), port: bytes.readUInt16BE(size) }
}
