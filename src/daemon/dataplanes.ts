import type { Log } from '../base/log.ts'
import type { OwnRestores } from '../iptables/own-restores.ts'
import type { NftClient } from '../nftables/client.ts'
import type { Dataplane } from '../proxy/dataplane.ts'
import { IptablesMode } from '../proxy-iptables/iptables-mode.ts'
import { openIptablesParts } from '../proxy-iptables/iptables-parts.ts'
import { IpvsMode, type IpvsSettings } from '../proxy-ipvs/ipvs-mode.ts'
import { openIpvsParts } from '../proxy-ipvs/ipvs-parts.ts'
import { NftablesMode } from '../proxy-nftables/nftables-mode.ts'
import { nftablesRedirect, openUserspaceMode } from '../proxy-userspace/userspace-mode.ts'
import type { ServiceMode } from './services-config.ts'

/** What modes are made of. */
export interface DataplaneParts {
  /** Undefined where the kernel has no nf_tables. */
  readonly nft: NftClient | undefined
  /** Shared with whoever else writes iptables rules here. */
  readonly restores: OwnRestores
  readonly log: Log
  /** Of mode ipvs. */
  readonly ipvs?: IpvsSettings | undefined
}

/** A mode that cannot be made; the message is for the user. */
export class ModeUnavailableError extends Error {
  override readonly name = 'ModeUnavailableError'
}

/** Makes the dataplane of a mode, without touching the kernel. Throws {@link ModeUnavailableError}. */
export function createDataplane(mode: ServiceMode, parts: DataplaneParts): Dataplane {
  const { nft, log, restores } = parts
  switch (mode) {
    case 'nftables':
      if (nft) return new NftablesMode(nft, { log })
      throw new ModeUnavailableError('mode nftables needs nf_tables, which this kernel does not have')
    case 'iptables':
      return new IptablesMode(() => openIptablesParts({ log, restores, nft }), { log })
    case 'ipvs':
      if (nft) return new IpvsMode(openIpvsParts, { log, settings: parts.ipvs ?? {} })
      throw new ModeUnavailableError('mode ipvs needs nf_tables, too, which this kernel does not have')
    case 'userspace':
      return openUserspaceMode({
        redirect: nft ? nftablesRedirect(nft, { log }) : createDataplane('iptables', parts),
        log,
      })
    default:
      return mode satisfies never
  }
}
