import type { Log } from '../base/log.ts'
import type { OwnRestores } from '../iptables/own-restores.ts'
import type { NftClient } from '../nftables/client.ts'
import type { Config } from './config.ts'
import type { EventLog } from './events.ts'
import type { Metrics } from './metrics.ts'
import type { NodeTokenControl } from './node-tokens.ts'
import type { DaemonStatus } from './status.ts'

/** What the parts are started with. */
export interface Context {
  readonly config: Config
  readonly log: Log
  readonly events: EventLog
  readonly nodeTokens: NodeTokenControl
  readonly metrics: Metrics
  readonly status: DaemonStatus
  /** Undefined where the kernel has none, and nothing here needs it. */
  readonly nft: NftClient | undefined
  /** Networks and Services may both write iptables rules. */
  readonly restores: OwnRestores
  readonly isUnit: boolean
  /** What is stopped, in reverse order, when the daemon stops or its start fails. The kernel keeps what is there. */
  readonly stack: AsyncDisposableStack
}

/** What keeps the daemon from starting, said for its user. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

/** The merged sources count as one for the loop: they give nothing before all of them are complete. */
export const allSources = 'sources'
