import { silentLog } from '../base/log.ts'
import { cleanupBridge } from '../bridge/cleanup.ts'
import { removeDockerUserRules } from '../bridge/docker-user-rules.ts'
import { openBridgeKernel } from '../bridge/kernel.ts'
import { removeIptablesFirewall } from '../bridge/other-firewall.ts'
import { readBootId } from '../linux/boot-id.ts'
import { removePodRoutes } from '../nodes/pod-routes.ts'
import { openRtnetlink } from '../rtnetlink/rtnetlink.ts'
import { removeIpvs } from '../proxy-ipvs/ipvs-cleanup.ts'
import { removeServiceRules } from '../proxy-iptables/iptables-cleanup.ts'
import { RelayAddresses } from '../proxy/relay-addresses.ts'
import { openNftablesIfAny } from './open-nftables.ts'

/** What was removed, and what was left alone although it may be no longer used, each as a few words. */
export interface CleanedMachine {
  readonly removed: readonly string[]
  readonly left: readonly string[]
}

/**
 * Removes everything of ours from the kernel, by name, and says what it was. Needs root, and no state file; where
 * there is one, sysctls that we changed are set back too.
 */
export async function cleanupMachine(options: {
  stateDir: string
  /** Also the iptables rules that a kube-proxy left. */
  kubeProxyRules?: boolean
}): Promise<CleanedMachine> {
  using kernel = openBridgeKernel()
  using nft = await openNftablesIfAny(silentLog)
  // First: our table says which virtual servers are ours.
  const balanced = await removeIpvs(nft, { log: silentLog })
  const relays = new RelayAddresses({ rtnetlink: openRtnetlink, log: silentLog })
  const [ours, dockers, relayed, rules, guards, routes] = await Promise.allSettled([
    cleanupBridge({ kernel, nft, remembered: { ...options, bootId: readBootId() } }),
    removeDockerUserRules(nft),
    relays.remove(),
    removeServiceRules({ kubeProxy: options.kubeProxyRules ?? false }),
    removeIptablesFirewall({ nft }),
    removePodRoutes(kernel.rtnetlink),
  ])
  if (ours.status === 'rejected') throw ours.reason
  if (dockers.status === 'rejected') throw dockers.reason
  if (relayed.status === 'rejected') throw relayed.reason
  if (rules.status === 'rejected') throw rules.reason
  if (guards.status === 'rejected') throw guards.reason
  if (routes.status === 'rejected') throw routes.reason
  const addresses = relayed.value.map((ip) => `address ${ip} of lo`)
  const removed = [
    ...balanced,
    ...ours.value,
    ...dockers.value,
    ...addresses,
    ...rules.value.removed,
    ...guards.value,
    ...routes.value,
  ]
  return { removed, left: rules.value.left }
}
