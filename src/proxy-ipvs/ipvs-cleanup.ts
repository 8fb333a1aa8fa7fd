import type { Log } from '../base/log.ts'
import type { NftClient } from '../nftables/client.ts'
import { IpvsMode } from './ipvs-mode.ts'
import { openIpvsParts, type IpvsParts } from './ipvs-parts.ts'
import { ipvsTable } from './ipvs-table.ts'
import { vipDeviceName } from './vip-device.ts'

/**
 * Removes all of mode ipvs from the kernel, and says what it was. Where our table is not, nothing is ours, and IPVS is not asked: the
 * question alone would load it.
 */
export async function removeIpvs(
  nft: Pick<NftClient, 'listTables'> | undefined,
  options: { readonly log: Log; readonly open?: () => IpvsParts },
): Promise<readonly string[]> {
  const tables = (await nft?.listTables()) ?? []
  if (!tables.some(({ family, name }) => family === 'inet' && name === ipvsTable)) return []
  await new IpvsMode(options.open ?? openIpvsParts, { log: options.log }).cleanup({ keepAnchor: true })
  return [`table inet ${ipvsTable}`, `device ${vipDeviceName}`, 'virtual servers of IPVS']
}
