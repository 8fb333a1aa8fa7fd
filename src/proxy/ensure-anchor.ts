import type { NftClient } from '../nftables/client.ts'
import { diffTable } from '../nftables/diff.ts'
import { anchorTable, anchorTableName } from './nftables-anchor.ts'

/** Sees to it that the anchor table is there, so that connections live on while one mode goes and another comes. */
export async function ensureAnchor(client: NftClient): Promise<void> {
  const changes = diffTable(await client.read('inet', anchorTableName), anchorTable)
  if (changes.length > 0) await client.run({ family: 'inet', table: anchorTableName, changes })
}
