import { join } from 'node:path'
import { systemClock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { BridgeNetworks } from '../bridge/bridge-networks.ts'
import { NetworkError } from '../bridge/check-network.ts'
import { DockerUserRules, removeDockerUserRules } from '../bridge/docker-user-rules.ts'
import { followSysctls } from '../bridge/forwarding.ts'
import type { FirewallTools } from '../bridge/host-firewall.ts'
import { type HostNetworks, openHostNetworks } from '../bridge/host-networks.ts'
import { openBridgeKernel } from '../bridge/kernel.ts'
import { NetworkStore, parseNetworkSpec } from '../bridge/network-store.ts'
import { removeIptablesFirewall, removeNftablesFirewall } from '../bridge/other-firewall.ts'
import { PodStore } from '../bridge/pod-record.ts'
import { openPodService } from '../bridge/pod-unit.ts'
import { keepsLease, openPods } from '../bridge/pods.ts'
import { IptablesError } from '../iptables/iptables-error.ts'
import { openTools } from '../iptables/open-tools.ts'
import { readBootId } from '../linux/boot-id.ts'
import { readMachineId } from '../linux/machine-id.ts'
import type { NetworkSettings } from '../model/network.ts'
import { objectKey } from '../model/object-key.ts'
import type { Pod } from '../model/pod.ts'
import { formatCidr } from '../net/cidr.ts'
import type { MemorySource } from '../sources/memory.ts'
import type { PodControl } from './pod-control.ts'
import { type Context, StartError } from './start-context.ts'

export async function startNetwork(
  context: Context,
  podSource: MemorySource,
  pods: PodControl,
): Promise<{ networks: HostNetworks; store: NetworkStore; configured: ReadonlySet<string> } | undefined> {
  const { config, log, stack, status, events } = context
  const { services, dns, stateDir, nodeName } = config
  const wanted = [...(config.network ? [config.network] : []), ...config.networks]
  if (wanted.length === 0) {
    pods.serve(undefined)
    return undefined
  }
  const store = PodStore.open(join(stateDir, 'pods'), log)
  const configured = new Set(wanted.map(({ name }) => name))
  const networkStore = NetworkStore.open(join(stateDir, 'networks.json'), log)
  const bootId = readBootId()
  const kernel = stack.use(openBridgeKernel())
  const networkLog = log.child({ part: 'network' })
  const tools = await openFirewallTools(context, networkLog)
  const networks = stack.use(
    await openHostNetworks({
      stateDir,
      networks: wanted,
      optional: rememberedNetworks(networkStore, { configured, log: networkLog }),
      serviceAddresses: dns?.addresses ?? [],
      reserved:
        services?.serviceCIDRs.map((range) => ({ range, what: `the Service range ${formatCidr(range)}` })) ?? [],
      machineId: readMachineId(),
      bootId,
      kernel,
      ...tools,
      log: networkLog,
      keepLease: (lease) => keepsLease(store, lease),
    }),
  )
  const forwarding = { kernel, log: networkLog, stateDir, bootId, clock: systemClock }
  stack.use(followSysctls(() => networks.bridges.settledNetworks, forwarding))
  await removeOtherFirewall(context, networkLog)
  status.networks = networks
  const opened = stack.use(
    await openPods({
      networks,
      store,
      bootId,
      nodeName,
      dns,
      onPods: (list) => replacePods(podSource, list),
      service: context.isUnit ? stack.use(openPodService()) : undefined,
      onReadiness: (sentence) => events.add('pod', sentence),
      log: log.child({ part: 'pods' }),
    }),
  )
  pods.serve(opened)
  for (const { name, bridge, subnets } of networks.bridges.networks) {
    events.add('network', `${name} is up: bridge ${bridge}, ${subnets.map(({ cidr }) => formatCidr(cidr)).join(', ')}`)
  }
  for (const { name, driver, parent } of networks.lan.networks) {
    events.add('network', `${name} is up: ${driver} on ${parent}`)
  }
  return { networks, store: networkStore, configured }
}

async function openFirewallTools({ config, nft, restores }: Context, log: Log): Promise<FirewallTools> {
  if (config.firewall === 'nftables') return { nft }
  try {
    const { clients, variant, limits } = await openTools({ log })
    for (const limit of limits) log.warn({ limit }, `iptables for the networks: ${limit}`)
    return { nft, iptables: { clients, notifications: variant === 'nft' ? nft : undefined, restores } }
  } catch (error) {
    if (!(error instanceof IptablesError)) throw error
    throw new StartError(`network.firewall: iptables cannot be used: ${error.message}`, { cause: error })
  }
}

/** What an earlier daemon had with another `network.firewall`, now that the rules of this one are there. */
async function removeOtherFirewall({ config, nft }: Context, log: Log): Promise<void> {
  try {
    const gone =
      config.firewall === 'nftables'
        ? await removeIptablesFirewall({ nft })
        : nft && (await removeNftablesFirewall(nft))
    for (const what of gone ?? []) log.info({}, `network.firewall is ${config.firewall}: removed ${what}`)
  } catch (error) {
    log.error({ err: error }, 'Cannot remove the firewall that an earlier daemon had for the networks')
  }
}

/** What was made while an earlier daemon ran; the configuration comes first. */
function rememberedNetworks(
  store: NetworkStore,
  { configured, log }: { configured: ReadonlySet<string>; log: Log },
): NetworkSettings[] {
  return [...store.networks.values()].flatMap((network) => {
    if (configured.has(network.name)) return []
    try {
      return [parseNetworkSpec(network)]
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error
      log.error({ network: network.name, err: error }, `Network ${network.name} cannot be had: ${error.message}`)
      return []
    }
  })
}

/** Whatever goes wrong with Docker's chain keeps no network from working: it is tried again. */
export async function startDockerUser(
  { config, log, nft, stack }: Context,
  networks: BridgeNetworks | undefined,
): Promise<void> {
  const dockerLog = log.child({ part: 'docker' })
  if (config.dockerUser === 'auto') {
    const bridges = (): string[] => networks?.networks.map(({ bridge }) => bridge) ?? []
    const services = config.sources.docker && config.services?.serviceCIDRs
    stack.use(new DockerUserRules({ bridges, services, nft, log: dockerLog, clock: systemClock })).follow()
    return
  }
  try {
    for (const what of await removeDockerUserRules(nft))
      dockerLog.info({}, `network.dockerUser is off: removed ${what}`)
  } catch (error) {
    dockerLog.error({ err: error }, 'Cannot remove our rules from DOCKER-USER')
  }
}

function replacePods(source: MemorySource, pods: readonly Pod[]): void {
  const present = new Set(pods.map(objectKey))
  const gone = [...source.snapshot.pods.keys()].filter((key) => !present.has(key)).map((key) => `Pod ${key}`)
  source.update(
    pods.map((value) => ({ kind: 'Pod', value })),
    gone,
  )
}
