import { silentLog } from '../src/base/log.ts'
import { openBridgeKernel } from '../src/bridge/kernel.ts'
import type { Owner } from '../src/bridge/names.ts'
import { openBridgeNetworks } from '../src/bridge/open-bridge-networks.ts'
import { parsePublish } from '../src/bridge/publication.ts'
import type { Netns } from '../src/linux/netns.ts'
import { parseCidr } from '../src/net/cidr.ts'
import { openNftables } from '../src/nftables/open-client.ts'
import type { Contender, Endpoint } from './attach.ts'

const network = 'default'

/** The bridge networks of the daemon, called as its control socket does. */
export async function openFairlead(host: Netns, stateDir: string): Promise<Contender> {
  await using stack = new AsyncDisposableStack()
  const kernel = stack.use(openBridgeKernel({ netns: host }))
  const nft = stack.use(openNftables({ netns: host }))
  const subnets = ['10.43.0.0/20', 'fd43::/64'].map(parseCidr)
  const networks = stack.use(
    await openBridgeNetworks({
      stateDir,
      networks: [{ name: network, bridge: 'fl0', subnets, masquerade: true }],
      machineId: 'bench',
      bootId: 'boot',
      kernel,
      nft,
      log: silentLog,
      keepLease: () => true,
    }),
  )
  const whole = stack.move()
  return {
    name: 'fairlead',
    publishes: true,
    attach: async (endpoints) =>
      throwFailures(
        await networks.attachMany(
          endpoints.map((endpoint) => ({
            owner: ownerOf(endpoint),
            network,
            netns: endpoint.netns.path,
            ...(endpoint.hostPort !== undefined && { publish: [parsePublish(`${endpoint.hostPort}:80`)] }),
          })),
        ),
      ),
    detach: async (endpoints) =>
      throwFailures(await networks.detachMany(endpoints.map((endpoint) => ({ owner: ownerOf(endpoint), network })))),
    [Symbol.asyncDispose]: () => whole.disposeAsync(),
  }
}

function ownerOf({ index }: Endpoint): Owner {
  return `pod default/p${index}`
}

function throwFailures(results: readonly PromiseSettledResult<unknown>[]): void {
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
