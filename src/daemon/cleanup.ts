import { silentLog } from '../base/log.ts'
import { cleanupBridge } from '../bridge/cleanup.ts'
import { removeDockerUserRules } from '../bridge/docker-user-rules.ts'
import { openBridgeKernel } from '../bridge/kernel.ts'
import { readBootId } from '../linux/boot-id.ts'
import { openRtnetlink } from '../netlink/rtnetlink.ts'
import { openNftables } from '../nftables/open-client.ts'
import { RelayAddresses } from '../proxy/relay-addresses.ts'

/**
 * Removes everything of ours from the kernel, by name, and returns what was removed. Needs root, and no state file; where
 * there is one, sysctls that we changed are set back too.
 */
export async function cleanupMachine(options: { stateDir: string }): Promise<readonly string[]> {
  using kernel = openBridgeKernel()
  using nft = openNftables({ log: silentLog })
  const relays = new RelayAddresses({ rtnetlink: openRtnetlink, log: silentLog })
  const [ours, dockers, relayed] = await Promise.allSettled([
    cleanupBridge({ kernel, nft, remembered: { ...options, bootId: readBootId() } }),
    removeDockerUserRules(nft),
    relays.remove(),
  ])
  if (ours.status === 'rejected') throw ours.reason
  if (dockers.status === 'rejected') throw dockers.reason
  if (relayed.status === 'rejected') throw relayed.reason
  return [...ours.value, ...dockers.value, ...relayed.value.map((ip) => `address ${ip} of lo`)]
}
