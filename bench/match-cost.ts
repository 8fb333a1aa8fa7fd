import { silentLog } from '../src/base/log.ts'
import { tracePacket } from '../src/iptables/trace.ts'
import { parseSave } from '../src/iptables/save-format.ts'
import { run } from '../src/linux/exec.ts'
import type { Netns } from '../src/linux/netns.ts'
import { parseCidr } from '../src/net/cidr.ts'
import { parseIp } from '../src/net/ip-address.ts'
import { protocolNumbers } from '../src/net/protocol.ts'
import type { TableState } from '../src/nftables/objects.ts'
import { Tracer } from '../src/nftables/trace.ts'
import { compileServices, defaultProxySettings, type CompiledServices } from '../src/proxy/compile-services.ts'
import { compileIpvs } from '../src/proxy-ipvs/ipvs-wanted.ts'
import { compileTable } from '../src/proxy-nftables/nftables-table.ts'
import { readFiles } from '../src/sources/files.ts'
import type { BenchMode } from './modes.ts'
import { clientNetwork } from './traffic-lab.ts'

/** The first packet of a connection from the client. */
export interface FirstPacket {
  readonly protocol: 'tcp' | 'udp'
  readonly source: string
  readonly ip: string
  readonly port: number
}

/** What the kernel does to find out where a packet goes. */
export interface MatchCost {
  /** Rules that it compares the packet with. */
  readonly rules: number
  /** Lookups in sets, maps and hash tables, each of which takes the same time whatever is in it. */
  readonly lookups: number
}

/** Says what a packet costs in one mode, at one set of Services. */
export type CostOf = (packet: FirstPacket) => MatchCost

/** Reads manifests and compiles them as the daemon on a node of the lab does. */
export async function compileManifests(folder: string): Promise<CompiledServices> {
  const { snapshot } = await readFiles(folder, { log: silentLog })
  const localPods = ['10.128.0.0/9', clientNetwork].map(parseCidr)
  return compileServices(snapshot, { nodeName: 'node-1', settings: { ...defaultProxySettings, localPods } })
}

/**
 * A model of a mode's match cost: the rules that are in the kernel (iptables), or that the mode makes (nftables, ipvs, userspace,
 * whose redirects are nftables'), and a tracer that counts. Undefined: there is nothing to match.
 */
export async function matchCost(
  mode: BenchMode,
  parts: { readonly netns: Netns; readonly services: CompiledServices },
): Promise<CostOf | undefined> {
  switch (mode) {
    case 'direct':
      return undefined
    case 'nftables':
    case 'userspace':
      return nftablesCost(compileTable(parts.services), { lookups: 0 })
    case 'ipvs': {
      const { table } = compileIpvs(parts.services, { others: new Set(), scheduler: 'rr', table: undefined })
      // ip_vs_service_find(): one hash table of virtual servers, keyed by protocol, address and port.
      return nftablesCost(table, { lookups: 1 })
    }
    case 'iptables-legacy':
    case 'iptables-nft':
      return await iptablesCost(mode, parts.netns)
    default:
      return mode satisfies never
  }
}

function nftablesCost(table: TableState, extra: { readonly lookups: number }): CostOf {
  return (packet) => {
    let rules = 0
    let { lookups } = extra
    const tracer = new Tracer(table, {
      isLocal: () => false,
      draw: () => 0,
      onRule: () => rules++,
      onLookup: () => lookups++,
    })
    const sent = {
      source: parseIp(packet.source),
      destination: parseIp(packet.ip),
      protocol: protocolNumbers[packet.protocol],
      sourcePort: 40_000,
      destinationPort: packet.port,
      iifname: 'clients',
    }
    const first = tracer.run('prerouting', sent)
    const second = first.verdict === 'accept' ? tracer.run('forward', sent, first) : first
    if (second.verdict === 'accept') tracer.run('postrouting', sent, second)
    return { rules, lookups }
  }
}

async function iptablesCost(mode: 'iptables-legacy' | 'iptables-nft', netns: Netns): Promise<CostOf> {
  const { code, stdout, stderr } = await run([`${mode}-save`], { netns })
  if (code !== 0) throw new Error(`${mode}-save: ${stderr.trim()}`)
  const ruleset = parseSave(stdout)
  return (packet) => {
    let rules = 0
    tracePacket(
      ruleset,
      {
        protocol: packet.protocol,
        source: parseIp(packet.source),
        destination: parseIp(packet.ip),
        destinationPort: packet.port,
        input: 'clients',
        isLocal: () => false,
      },
      // The half of all endpoints: as deep as a packet comes on average.
      { draw: () => 0.5, isInSet: () => false, onRule: () => rules++ },
    )
    return { rules, lookups: 0 }
  }
}
