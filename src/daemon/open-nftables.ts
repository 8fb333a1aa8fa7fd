import type { Log } from '../base/log.ts'
import type { NftClient } from '../nftables/client.ts'
import { openNftables } from '../nftables/open-client.ts'

/** Opens nf_tables, and sees that the kernel has it. Throws NftablesError, NetlinkSocketError. */
export async function openUsableNftables(log: Log): Promise<NftClient> {
  const nft = openNftables({ log })
  try {
    await nft.listTables()
    return nft
  } catch (error) {
    nft[Symbol.dispose]()
    throw error
  }
}

/** The same, but undefined where the kernel has none. Throws where it may not be used (EPERM). */
export async function openNftablesIfAny(log: Log): Promise<NftClient | undefined> {
  try {
    return await openUsableNftables(log)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // A kernel without nfnetlink has no such socket; one without nf_tables does not know the request.
    if (code === 'EPROTONOSUPPORT' || code === 'EINVAL' || code === 'EOPNOTSUPP') return undefined
    throw error
  }
}
