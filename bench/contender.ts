import type { ContenderName } from './contender-names.ts'
import type { BenchOptions } from './options.ts'
import { startProxyDaemon } from './proxy-daemon.ts'
import type { TrafficNode } from './traffic-lab.ts'

/** What a contender is started with. */
export interface StartContender {
  readonly lane: TrafficNode
  readonly folder: string
  /** The Services, as a folder of manifests. */
  readonly manifests: string
  readonly options: BenchOptions
  readonly signal: AbortSignal
}

/** Starts a contender on a node, and waits until all Services are programmed. */
export async function startContender(
  { mode, peer, name }: ContenderName,
  { lane, folder, manifests, options, signal }: StartContender,
): Promise<AsyncDisposable> {
  if (mode === 'direct') return { [Symbol.asyncDispose]: () => Promise.resolve() }
  if (peer) throw new Error(`${name}: peers are not there yet`)
  if (!mode) throw new Error(`${name} is neither a mode nor a peer`)
  const { startLimitMs } = options
  return await startProxyDaemon({
    mode,
    netns: lane.node,
    folder,
    sources: { files: [manifests] },
    startLimitMs,
    signal,
  })
}
