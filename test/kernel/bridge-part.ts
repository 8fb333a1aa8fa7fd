import { join } from 'node:path'
import { silentLog } from '../../src/base/log.ts'
import type { BridgeNetworks } from '../../src/bridge/bridge-networks.ts'
import { openBridgeKernel } from '../../src/bridge/kernel.ts'
import { openBridgeNetworks } from '../../src/bridge/open-bridge-networks.ts'
import { PodStore } from '../../src/bridge/pod-record.ts'
import { keepsLease, openPods, type Pods } from '../../src/bridge/pods.ts'
import type { Netns } from '../../src/linux/netns.ts'
import { openNftables } from '../../src/nftables/open-client.ts'

/** Networks and pods of a daemon, without the rest of it. */
export interface BridgePart extends AsyncDisposable {
  readonly networks: BridgeNetworks
  readonly pods: Pods
}

/** Opens them as the daemon does, in a namespace that plays the host. */
export async function openBridgePart(options: {
  readonly netns: Netns
  readonly stateDir: string
  readonly netnsPrefix: string
}): Promise<BridgePart> {
  const { netns, stateDir, netnsPrefix } = options
  await using stack = new AsyncDisposableStack()
  const store = PodStore.open(join(stateDir, 'pods'), silentLog)
  const kernel = stack.use(openBridgeKernel({ netns }))
  const nft = stack.use(openNftables({ netns }))
  const bootId = 'boot'
  const networks = stack.use(
    await openBridgeNetworks({
      stateDir,
      networks: [
        { name: 'default', bridge: 'fl0', subnets: [], masquerade: true },
        { name: 'other', bridge: 'fl-other', subnets: [], masquerade: true },
      ],
      machineId: 'test',
      bootId,
      kernel,
      nft,
      log: silentLog,
      keepLease: (lease) => keepsLease(store, lease),
    }),
  )
  const shared = { networks, store, bootId, netnsPrefix, log: silentLog }
  const pods = stack.use(
    await openPods({ ...shared, nodeName: 'node-1', dns: undefined, onPods: () => {}, graceMs: 300 }),
  )
  const whole = stack.move()
  return { networks, pods, [Symbol.asyncDispose]: () => whole.disposeAsync() }
}
