import { silentLog } from '../base/log.ts'
import { cleanupBridge } from '../bridge/cleanup.ts'
import { openBridgeKernel } from '../bridge/kernel.ts'
import { openNftables } from '../nftables/open-client.ts'

/** Removes everything of ours from the kernel, by name, and returns what was removed. Needs no state file; needs root. */
export async function cleanupMachine(): Promise<readonly string[]> {
  using kernel = openBridgeKernel()
  using nft = openNftables({ log: silentLog })
  return await cleanupBridge({ kernel, nft })
}
