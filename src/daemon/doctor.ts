import { existsSync, readFileSync } from 'node:fs'
import { silentLog } from '../base/log.ts'
import { readLegacyTables } from '../bridge/docker-user-rules.ts'
import { openTools } from '../iptables/open-tools.ts'
import { SyscallError } from '../linux/errno.ts'
import { probeMachine, probe, type Feature } from '../linux/features.ts'
import { findKernelModule } from '../linux/kernel-module.ts'
import { createAnonymousNetns } from '../linux/netns.ts'
import { readSysctl, SysctlError } from '../linux/sysctl.ts'
import { probeKernelFeatures } from '../rtnetlink/kernel-features.ts'
import { openRtnetlink } from '../rtnetlink/rtnetlink.ts'
import { NftablesError } from '../nftables/nftables-error.ts'
import { bridgeFindings } from './bridge-findings.ts'
import { firewallFindings } from './firewall-findings.ts'
import { openNftablesIfAny } from './open-nftables.ts'

/** One thing that was looked at. */
export interface Finding extends Feature {
  /** fairlead cannot work without it; the others are worth knowing. */
  readonly needed: boolean
}

/** Features that are nice to have, or that fairlead switches on by itself. */
const optional: ReadonlySet<string> = new Set([
  'IPv6',
  'IPv4 forwarding',
  'CAP_NET_RAW',
  'iptables',
  'IPVS',
  'resolvers',
  'daemon',
])

/** Looks at this machine: what fairlead needs, by trying it in throw-away namespaces, and what is good to know. */
export async function doctor(options: {
  controlSocket: string
  resolvConf?: string
  /** Our bridge, for hints. @default `fl0` */
  bridge?: string
}): Promise<Finding[]> {
  const resolvConf = options.resolvConf ?? '/etc/resolv.conf'
  const iptables = await probeIptables()
  const features: (Feature & { readonly needed?: false })[] = [
    ...probeMachine(),
    ...(await probeKernelFeatures()).map((feature) => orIptables(feature, iptables)),
    iptables,
    probeIpvs(),
    probe(
      'resolvers',
      `write "nameserver ADDRESS" into ${resolvConf}: names outside of the cluster are asked there`,
      () => {
        const servers = [...readFileSync(resolvConf, 'utf8').matchAll(/^\s*nameserver\s+(\S+)/gm)].map(
          (match) => match[1],
        )
        if (servers.length === 0) throw new Error(`${resolvConf} names no server`)
        return servers.join(', ')
      },
    ),
    probe('daemon', 'start one with "fairlead run"', () => {
      if (!existsSync(options.controlSocket)) throw new Error(`none: there is no ${options.controlSocket}`)
      return `its socket is ${options.controlSocket}`
    }),
  ]
  return [
    ...features.map((feature) => ({ ...feature, needed: !optional.has(feature.name) && feature.needed !== false })),
    ...(await readFirewalls(options.bridge ?? 'fl0')),
    ...(await readBridges()),
  ]
}

/** Tries the tools in a throw-away namespace, where no tables come into being that anybody sees. */
async function probeIptables(): Promise<Feature> {
  const hint = 'install iptables, for services.mode and network.firewall iptables; nothing else needs it'
  try {
    using netns = createAnonymousNetns()
    const { variant, clients, limits } = await openTools({ netns })
    const families = clients.map(({ family }) => `IPv${family}`).join(' and ')
    const detail = [`the ${variant} tools ${clients[0]?.version ?? ''} work, ${families}`, ...limits].join('; ')
    return probe('iptables', hint, () => detail)
  } catch (error) {
    return probe('iptables', hint, () => {
      throw error
    })
  }
}

/** Looks without asking: the question alone would load it. */
function probeIpvs(): Feature {
  const hint =
    "for services.mode ipvs alone: a kernel with CONFIG_IP_VS, like Debian's linux-image-amd64; a container gets it from its host"
  return probe('IPVS', hint, () => {
    const found = findKernelModule('ip_vs')
    if (found === undefined) throw new Error('this kernel has no module ip_vs')
    return found === 'loaded' ? 'loaded' : 'a module, which mode ipvs loads'
  })
}

/** A kernel without nf_tables will do where iptables works. */
function orIptables(feature: Feature, iptables: Feature): Feature & { readonly needed?: false } {
  if (feature.name !== 'nf_tables' || feature.ok || !iptables.ok) return feature
  const instead = 'or set services.mode and network.firewall to iptables'
  return { ...feature, hint: feature.hint === undefined ? instead : `${feature.hint}, ${instead}`, needed: false }
}

async function readBridges(): Promise<Finding[]> {
  try {
    using rtnetlink = openRtnetlink()
    return bridgeFindings(await rtnetlink.links.list())
  } catch (error) {
    // Without root; "forward firewalls" says so already.
    if (error instanceof SyscallError) return []
    throw error
  }
}

async function readFirewalls(bridge: string): Promise<Finding[]> {
  try {
    using nft = await openNftablesIfAny(silentLog)
    return firewallFindings({
      bridge,
      chains: (await nft?.listChains()) ?? [],
      legacyTables: {
        ip: readLegacyTables('/proc/net/ip_tables_names'),
        ip6: readLegacyTables('/proc/net/ip6_tables_names'),
      },
      bridgeNetfilter: readBridgeNetfilter(),
    })
  } catch (error) {
    if (!(error instanceof NftablesError)) throw error
    const detail = `cannot be read: ${error.message}`
    return [{ name: 'forward firewalls', needed: false, ok: false, detail, hint: 'run "fairlead doctor" as root' }]
  }
}

function readBridgeNetfilter(): string | undefined {
  try {
    return readSysctl('net.bridge.bridge-nf-call-iptables')
  } catch (error) {
    if (error instanceof SysctlError && error.code === 'ENOENT') return undefined
    throw error
  }
}
