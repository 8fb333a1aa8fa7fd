import { readFileSync } from 'node:fs'
import { release } from 'node:os'
import { systemClock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { BridgeNetworks } from '../bridge/bridge-networks.ts'
import { noPeers } from '../bridge/cluster-peers.ts'
import { portPrefix } from '../bridge/names.ts'
import { ClusterAccess, type ClusterLocation } from '../kubernetes/cluster-access.ts'
import { readBootId } from '../linux/boot-id.ts'
import { readMachineId } from '../linux/machine-id.ts'
import type { Snapshot } from '../model/snapshot.ts'
import { cidrFamily, formatCidr, type Cidr } from '../net/cidr.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { findNodeAddresses } from '../nodes/node-addresses.ts'
import { NodeAgent } from '../nodes/node-agent.ts'
import type { NodeFacts, NodeInfo } from '../nodes/node-object.ts'
import { PodRoutes } from '../nodes/pod-routes.ts'
import { openRtnetlink, type Rtnetlink } from '../rtnetlink/rtnetlink.ts'
import type { MemorySource } from '../sources/memory.ts'
import type { SnapshotStream } from '../sources/merge.ts'
import type { Config } from './config.ts'
import type { ClusterView } from './control-api.ts'
import { isRegistered, keepsPodRoutes } from './node-config.ts'

/** What {@link openNode} needs. */
export interface NodeOptions {
  readonly config: Config
  /** The API that this node is of; undefined: none. */
  readonly location: ClusterLocation | undefined
  readonly networks: BridgeNetworks | undefined
  readonly podSource: MemorySource
  readonly sources: SnapshotStream
  /** What is wrong with the daemon now. */
  readonly complaints: () => readonly string[]
  readonly version: string
  readonly log: Log
}

/** This machine as a node of a cluster. Dispose it to stop; its objects and routes stay. */
export interface ClusterMember extends AsyncDisposable {
  view(): ClusterView
}

/** Registers this node and keeps routes to the others, as far as the configuration asks for it. */
export async function openNode(options: NodeOptions): Promise<ClusterMember | undefined> {
  const { config, location, log } = options
  const register = isRegistered(config)
  const podRoutes = keepsPodRoutes(config)
  if (!register && !podRoutes) {
    // Of an earlier daemon, that was a node.
    if (options.networks?.peers.network) await options.networks.setPeers(noPeers)
    return undefined
  }
  const stack = new AsyncDisposableStack()
  const rtnetlink = stack.use(openRtnetlink())
  const agent = register && location ? stack.use(openAgent(location, { ...options, rtnetlink })) : undefined
  if (agent) stack.defer(followPods(agent, options.podSource))
  const routes = stack.use(openRoutes({ ...options, rtnetlink }))
  let nodes: Snapshot['nodes'] | undefined
  // Not before the first complete list: routes of an earlier daemon stay until then.
  stack.defer(
    options.sources.subscribe((snapshot) => {
      if (snapshot.nodes === nodes) return
      if (!nodes) routes.follow()
      nodes = snapshot.nodes
      routes.update()
    }),
  )
  log.debug({ register, podRoutes }, 'this machine is a node')
  return {
    view: () => viewCluster(options, { agent, routes }),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

function openAgent(location: ClusterLocation, options: NodeOptions & { rtnetlink: Rtnetlink }): NodeAgent {
  const { config, version, log } = options
  const access = new ClusterAccess(location, { env: process.env, clock: systemClock })
  const info = readNodeInfo(version)
  return new NodeAgent({
    access,
    nodeName: config.nodeName,
    leaseSeconds: config.node.leaseSeconds,
    facts: async () => await readFacts(options, info),
    userAgent: `fairlead/${version}`,
    clock: systemClock,
    log,
  })
}

/** Returns what ends that. */
function followPods(agent: NodeAgent, source: MemorySource): () => void {
  const update = (): void => agent.update([...source.snapshot.pods.values()])
  update()
  return source.subscribe(update)
}

function openRoutes({ config, networks, sources, rtnetlink, log }: NodeOptions & { rtnetlink: Rtnetlink }): PodRoutes {
  const { nodeName, services, dns, network } = config
  return new PodRoutes({
    rtnetlink,
    enabled: keepsPodRoutes(config),
    facts: () => ({
      self: nodeName,
      nodes: sources.current.nodes.values(),
      own: podCIDRs(config, networks),
      reserved: [
        ...(services?.serviceCIDRs ?? []).map((range) => ({ range, what: `the Service range ${formatCidr(range)}` })),
        ...(networks?.subnets ?? []),
        ...(dns?.addresses ?? []).map((address) => ({
          range: { address, prefix: address.includes(':') ? 128 : 32 },
          what: `the cluster DNS address ${address}`,
        })),
      ],
      clusterCIDRs: services?.detectLocal.kind === 'cluster' ? services.detectLocal.cidrs : [],
    }),
    isOwnLink: ownLinks(networks),
    async onPlan({ pods, addresses }) {
      if (networks && network) await networks.setPeers({ network: network.name, pods, nodes: addresses })
    },
    clock: systemClock,
    log,
  })
}

/** Where other machines reach this one: as it is configured, or as its routes have it. */
export async function nodeAddresses(
  { node }: Pick<Config, 'node'>,
  options: { readonly rtnetlink?: Rtnetlink; readonly networks: BridgeNetworks | undefined },
): Promise<readonly IpAddress[]> {
  if (node.addresses.length > 0) return node.addresses
  if (options.rtnetlink) return await findNodeAddresses(options.rtnetlink, ownLinks(options.networks))
  using rtnetlink = openRtnetlink()
  return await findNodeAddresses(rtnetlink, ownLinks(options.networks))
}

async function readFacts(
  { config, networks, complaints, rtnetlink }: NodeOptions & { rtnetlink: Rtnetlink },
  info: NodeInfo,
): Promise<NodeFacts> {
  const { node, nodeName } = config
  const addresses = await nodeAddresses(config, { rtnetlink, networks })
  const { labels } = node
  return { name: nodeName, labels, addresses, podCIDRs: podCIDRs(config, networks), complaints: complaints(), info }
}

/** The subnets of the default network, where other nodes may reach anything of it. */
function podCIDRs({ network }: Config, networks: BridgeNetworks | undefined): readonly Cidr[] {
  const own = networks?.networks.find(({ name }) => name === network?.name)
  if (!own || own.internal) return []
  return own.subnets.map(({ cidr }) => cidr).filter((cidr) => own.gatewayModes[cidrFamily(cidr)] !== 'isolated')
}

/** Whether a link is a bridge of ours, or a port of one. */
function ownLinks(networks: BridgeNetworks | undefined): (name: string) => boolean {
  return (name) => name.startsWith(portPrefix) || (networks?.networks.some(({ bridge }) => bridge === name) ?? false)
}

function readNodeInfo(version: string): NodeInfo {
  return {
    machineID: readMachineId(),
    bootID: readBootId(),
    kernelVersion: release(),
    osImage: readOsImage(),
    containerRuntimeVersion: `fairlead://${version}`,
    kubeletVersion: `v${version}-fairlead`,
    operatingSystem: 'linux',
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
  }
}

/** os-release(5) */
function readOsImage(): string {
  try {
    return /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux'
  } catch {
    // Optional, and for people only.
    return 'Linux'
  }
}

function viewCluster(
  { config, sources }: NodeOptions,
  { agent, routes }: { agent: NodeAgent | undefined; routes: PodRoutes },
): ClusterView {
  const status = agent?.status()
  return {
    registered: agent !== undefined,
    renewedSeconds: status?.renewedMs === undefined ? undefined : status.renewedMs / 1000,
    nodes: [...sources.current.nodes.values()].map(({ name, addresses, podCIDRs, ready }) => ({
      name,
      addresses,
      podCIDRs: podCIDRs.map(formatCidr),
      ready: ready ?? 'Unknown',
      self: name === config.nodeName,
    })),
    routes: routes.routes.map(({ node, destination, via, link }) => ({
      node,
      destination: formatCidr(destination),
      via,
      link,
    })),
    repairs: routes.repairs,
    problems: [...(status?.error === undefined ? [] : [status.error]), ...(status?.problems ?? []), ...routes.problems],
  }
}
