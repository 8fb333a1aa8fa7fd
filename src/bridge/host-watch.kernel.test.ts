import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterEach, expect, test, vi } from 'vitest'
import { silentLog } from '../base/log.ts'
import { createAnonymousNetns } from '../linux/netns.ts'
import { openNftables } from '../nftables/open-client.ts'
import { openBridgeKernel } from './kernel.ts'
import { openBridgeNetworks } from './open-bridge-networks.ts'
import { parsePublish } from './publication.ts'

const stack = new AsyncDisposableStack()
afterEach(() => stack.disposeAsync())

test('watchHost() finds nothing to look at in what we do ourselves; what others do is repaired as ever', async () => {
  const host = stack.use(createAnonymousNetns())
  const kernel = stack.use(openBridgeKernel({ netns: host }))
  const nft = stack.use(openNftables({ netns: host }))
  const stateDir = mkdtempSync(join(tmpdir(), 'fairlead-watch-'))
  stack.defer(() => rmSync(stateDir, { recursive: true }))
  await kernel.rtnetlink.links.set('lo', { up: true })
  const networks = stack.use(
    await openBridgeNetworks({
      stateDir,
      networks: [{ name: 'default', bridge: 'fl0', subnets: [], masquerade: true }],
      machineId: 'test',
      bootId: 'boot',
      kernel,
      nft,
      log: silentLog,
      keepLease: () => true,
    }),
  )
  // The first look, for what happened before anybody listened.
  await setTimeout(300)
  const looks = vi.spyOn(kernel.rtnetlink.links, 'list')
  const pods = Array.from({ length: 20 }, (_, number) => ({
    owner: `pod default/p${number}` as const,
    network: 'default',
    netns: stack.use(createAnonymousNetns()).path,
  }))
  for (const result of await networks.attachMany(pods)) expect(result.status).toBe('fulfilled')
  // Longer than the kernel takes to tell of carriers (linkwatch: up to a second).
  await setTimeout(1200)
  const [first] = pods
  await networks.detach(first!.owner, 'default')
  await networks.attach({ ...first!, publish: [parsePublish('8080:80')] })
  for (const result of await networks.detachMany(pods.slice(1))) expect(result.status).toBe('fulfilled')
  await setTimeout(300)
  expect(looks).toHaveBeenCalledTimes(0)
  // This one looks for what the network must not be in the way of.
  await networks.add({ name: 'second', bridge: 'fl1', subnets: [], masquerade: true })
  await networks.remove('second')
  await setTimeout(300)
  expect(looks).toHaveBeenCalledTimes(1)
  expect(networks.repairs).toBe(0)
  await kernel.rtnetlink.links.delete('fl0')
  await vi.waitFor(() => expect(networks.repairs).toBe(1), { timeout: 2000 })
})
