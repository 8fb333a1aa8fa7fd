import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { run } from '../linux/exec.ts'
import { createAnonymousNetns, type Netns } from '../linux/netns.ts'
import type { LanSettings } from '../model/network.ts'
import { parseNetwork } from '../net/cidr.ts'
import { openNftables } from '../nftables/open-client.ts'
import { ip } from '../../test/lab/dhcp-lan.ts'
import { openHostNetworks, type HostNetworks } from './host-networks.ts'
import { openBridgeKernel } from './kernel.ts'
import { driverObstacle } from './lan-link.ts'
import type { Owner } from './names.ts'

interface Lan {
  readonly networks: HostNetworks
  readonly host: Netns
  /** A namespace with an endpoint in the network. */
  readonly attach: (name: string) => Promise<Netns>
  /** Whether somebody there refuses a connection, which only whoever has the address can do. */
  readonly answers: (from: Netns, to: string) => Promise<boolean>
}

/** A host with a link `uplink` on a LAN, and a network on it. */
async function withLan(
  settings: Pick<LanSettings, 'driver' | 'mode'>,
  work: (lan: Lan) => Promise<void>,
): Promise<void> {
  const stateDir = mkdtempSync(join(tmpdir(), 'lan-networks-'))
  await using stack = new AsyncDisposableStack()
  stack.defer(() => rmSync(stateDir, { recursive: true }))
  const [host, outside] = [stack.use(createAnonymousNetns()), stack.use(createAnonymousNetns())]
  await ip(host, 'link add uplink type veth peer name lan0 netns', outside.path)
  await ip(host, 'link set uplink up')
  await ip(outside, 'link set lan0 up')
  await ip(outside, 'addr add 10.44.0.1/24 dev lan0')
  await ip(outside, 'addr add fd00:44::1/64 dev lan0 nodad')
  // Behind the LAN: only with a default route.
  await ip(outside, 'link set lo up')
  await ip(outside, 'addr add 10.55.0.1/32 dev lo')
  const kernel = stack.use(openBridgeKernel({ netns: host }))
  const lan = { name: 'lan', parent: 'uplink', addresses: 'pool', mtu: undefined, ...settings } as LanSettings
  const subnets = [parseNetwork('10.44.0.0/24'), parseNetwork('fd00:44::/64')]
  const networks = stack.use(
    await openHostNetworks({
      stateDir,
      networks: [{ ...lan, subnets }],
      machineId: 'test',
      bootId: 'boot',
      kernel,
      nft: stack.use(openNftables({ netns: host })),
      log: silentLog,
      keepLease: () => true,
    }),
  )
  await work({
    networks,
    host,
    async attach(name) {
      const netns = stack.use(createAnonymousNetns())
      await networks.attach({ owner: `pod default/${name}`, network: 'lan', netns: netns.path })
      return netns
    },
    async answers(from, to) {
      const { stderr } = await run(['curl', '-sS', '--max-time', '2', `http://${to}:9`], { netns: from })
      return /refused|Could not connect|Couldn't connect/i.test(stderr) && !/timed out|unreachable/i.test(stderr)
    },
  })
}

async function obstacleOf(driver: LanSettings['driver']): Promise<string | undefined> {
  using host = createAnonymousNetns()
  using kernel = openBridgeKernel({ netns: host })
  return await driverObstacle(driver, kernel)
}

describe.each<Pick<LanSettings, 'driver' | 'mode'> & { neighbours: boolean }>([
  { driver: 'macvlan', mode: 'bridge', neighbours: true },
  { driver: 'macvlan', mode: 'private', neighbours: false },
  { driver: 'macvlan', mode: 'vepa', neighbours: false },
  { driver: 'macvlan', mode: 'passthru', neighbours: false },
  { driver: 'ipvlan', mode: 'l2', neighbours: true },
  { driver: 'ipvlan', mode: 'l3', neighbours: true },
])('LanNetworks, $driver of mode $mode', ({ neighbours, ...settings }) => {
  test('a pod reaches the LAN, its endpoint is put back when it is taken away, and nothing is left of it', async ({
    skip,
  }) => {
    const obstacle = await obstacleOf(settings.driver)
    if (obstacle !== undefined) skip(obstacle)
    await withLan(settings, async ({ networks, attach, answers, host }) => {
      const pod = await attach('a')
      const [first] = networks.leases.values()
      expect(first).toMatchObject({ link: 'eth0', ips: ['10.44.0.2', 'fd00:44::2'] })
      if (settings.mode === 'l3') {
        // Whoever routes to pods of mode l3 has to know that they are here: nobody asks for their MAC address.
        const { stdout } = await run(['ip', 'route', 'get', '10.99.0.1'], { netns: pod })
        expect(stdout).toContain('dev eth0 src 10.44.0.2')
      } else {
        for (const to of ['10.44.0.1', '[fd00:44::1]', '10.55.0.1'])
          expect({ to, answers: await answers(pod, to) }).toEqual({ to, answers: true })
      }
      await ip(pod, 'link del eth0')
      expect((await networks.lan.reconcile()).join()).toContain(
        `create ${settings.driver} link eth0 of pod default/a on uplink`,
      )
      expect(await networks.lan.reconcile()).toEqual([])
      await ip(pod, 'addr flush dev eth0 scope global')
      expect((await networks.lan.reconcile()).join()).toContain('add address 10.44.0.2/')
      if (settings.mode !== 'l3') expect(await answers(pod, '10.44.0.1')).toBe(true)
      expect((await networks.inspect('lan')).get('lan/pod default/a')).toMatchObject({ port: 'uplink', state: 'up' })

      const second = attach('b')
      if (settings.mode === 'passthru') await expect(second).rejects.toThrow('is taken by pod default/a')
      else expect(await answers(await second, '10.44.0.2')).toBe(neighbours)
      for (const name of ['a', 'b']) await networks.detach(`pod default/${name}` as Owner, 'lan')
      expect(networks.leases.size).toBe(0)
      expect((await run(['ip', '-o', 'link'], { netns: pod })).stdout).not.toContain('eth0')
      expect((await run(['ip', '-o', 'link'], { netns: host })).stdout).not.toContain('fairlead pod')
    })
  })
})
