import type { Contender, ContenderName } from './contender-names.ts'
import type { ControlPlane } from './control-plane.ts'
import { clusterIp } from './generate-services.ts'
import type { BenchOptions } from './options.ts'
import { startPeer } from './peer.ts'
import { startProxyDaemon } from './proxy-daemon.ts'
import type { TrafficLab, TrafficNode } from './traffic-lab.ts'

/** What a contender is started with. */
export interface StartContender {
  readonly lab: TrafficLab
  readonly lane: TrafficNode
  readonly folder: string
  /** Where Services come from: manifests, or an API server. Peers need one. */
  readonly manifests?: string
  readonly plane?: ControlPlane
  /** A Service that answers once a peer is ready. Default: the first that is generated. */
  readonly probe?: { readonly ip: string; readonly port: number }
  readonly options: BenchOptions
  readonly signal: AbortSignal
}

/** Starts a contender on a node, and waits until all Services are programmed. */
export async function startContender({ mode, peer, name }: ContenderName, start: StartContender): Promise<Contender> {
  const { lab, lane, folder, manifests, plane, options, signal, probe: given } = start
  const { startLimitMs } = options
  if (mode === 'direct') return { ended: () => undefined, [Symbol.asyncDispose]: () => Promise.resolve() }
  if (peer && plane) {
    const kubeconfig = plane.kubeconfigFor(lane)
    const probe = { ip: given?.ip ?? clusterIp(0), port: given?.port ?? 80 }
    return await startPeer(peer, { lab, lane, folder, kubeconfig, probe, startLimitMs, signal })
  }
  const sources =
    manifests === undefined
      ? plane && { kubernetes: { kubeconfig: plane.kubeconfigFor(lane) } }
      : { files: [manifests] }
  if (!mode || !sources) throw new Error(`${name}: there is nothing to follow`)
  return await startProxyDaemon({ mode, netns: lane.node, folder, sources, startLimitMs, signal })
}
