import type { Log } from '../base/log.ts'
import type { NftClient } from '../nftables/client.ts'
import type { Config } from './config.ts'
import { openUsableNftables } from './open-nftables.ts'
import { StartError } from './start-context.ts'

/** Without networks or with `network.firewall: iptables`, and in another mode, a machine can do without nf_tables. */
export async function openNftablesFor(config: Config, log: Log): Promise<NftClient | undefined> {
  const guards = config.firewall === 'nftables' && (config.network !== undefined || config.networks.length > 0)
  const needed = guards || config.services?.mode === 'nftables'
  if (needed) return openNeededNftables(log)
  try {
    return await openUsableNftables(log)
  } catch (error) {
    log.warn({ err: error }, 'no nf_tables here: established connections do not outlive a switch of the mode')
    return undefined
  }
}

async function openNeededNftables(log: Log): Promise<NftClient> {
  try {
    return await openUsableNftables(log)
  } catch (error) {
    const reason = (error as Error).message
    const advice = '"fairlead doctor" says more; without it, set services.mode and network.firewall to iptables'
    throw new StartError(`nf_tables cannot be used: ${reason} (${advice})`, { cause: error })
  }
}
