import type { NftClient } from '../nftables/client.ts'
import { ipvsTable } from '../proxy-ipvs/ipvs-table.ts'
import { chains } from '../proxy-iptables/iptables-names.ts'
import { servicesTable } from '../proxy-nftables/nftables-sets.ts'
import { userspaceTable } from '../proxy-userspace/userspace-mode.ts'
import type { ServiceMode } from './services-config.ts'

const modeOfTable: Readonly<Record<string, ServiceMode>> = {
  [servicesTable]: 'nftables',
  [userspaceTable]: 'userspace',
  [ipvsTable]: 'ipvs',
}

/**
 * The modes that have rules in the kernel, as far as nf_tables shows: for a start without its state directory (a container's
 * is often empty), whose rules would otherwise stand beside those of another mode for ever. Rules of the legacy iptables
 * tools are not to be seen here.
 */
export async function findModes(nft: Pick<NftClient, 'listTables' | 'listChains'>): Promise<readonly ServiceMode[]> {
  const tables = await nft.listTables()
  const modes = tables.flatMap(({ family, name }) => (family === 'inet' ? (modeOfTable[name] ?? []) : []))
  if (!tables.some(({ family, name }) => name === 'nat' && family !== 'inet')) return modes
  const found = await nft.listChains()
  const iptables = found.some(
    ({ family, table, name }) => family !== 'inet' && table === 'nat' && name === chains.owner,
  )
  return iptables ? [...modes, 'iptables'] : modes
}
