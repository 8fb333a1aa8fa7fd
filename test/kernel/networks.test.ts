import { describe, expect, test } from 'vitest'
import type { NetworkDetailsView, NetworkSummaryView, PodView } from '../../src/daemon/control-api.ts'
import { Machine, machineObstacle, type Ran } from './machine.ts'

const obstacle = machineObstacle()
const server = new URL('../../examples/hello/server.js', import.meta.url).pathname
const serve = (name: string): string[] => [process.execPath, server, name, '8080']

async function ok(machine: Machine, ...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await machine.fairlead(...words)
  expect({ words, code, stderr }).toEqual({ words, code: 0, stderr: '' })
  return stdout
}

const exec = (machine: Machine, pod: string, ...words: readonly string[]): Promise<Ran> =>
  machine.fairlead('pod', 'exec', pod, '--', ...words)

const reaches = async (machine: Machine, pod: string, ip: string): Promise<boolean> =>
  (await exec(machine, pod, 'curl', '-sS', '--max-time', '1', `http://${ip.includes(':') ? `[${ip}]` : ip}:8080`))
    .code === 0

describe.skipIf(obstacle !== undefined)(
  `networks on a machine of its own${obstacle ? ` (skipped: ${obstacle})` : ''}`,
  () => {
    test(
      'fairlead network create, ls, inspect, connect, disconnect and rm work, and what they made outlives a kill -9',
      { timeout: 120_000 },
      async () => {
        await using machine = await Machine.create()
        const daemon = await machine.startDaemon('networks: [{name: backend, internal: true}]\n')
        const words = (
          '--subnet 10.20.0.0/24 --subnet 10.21.0.0/24 --gateway 10.20.0.254 --ip-range 10.20.0.128/25 ' +
          '--aux-address nas=10.20.0.128 --no-ipv6 --mtu 1400 --label team=shop'
        ).split(' ')
        const made = JSON.parse(await ok(machine, 'network', 'create', 'lan', ...words, '--json')) as NetworkSummaryView
        expect(made).toMatchObject({
          bridge: 'fl-lan',
          origin: 'command',
          subnets: [
            {
              subnet: '10.20.0.0/24',
              gateway: '10.20.0.254',
              ipRange: '10.20.0.128/25',
              auxAddresses: ['10.20.0.128'],
            },
            { subnet: '10.21.0.0/24', gateway: '10.21.0.1' },
          ],
          mtu: 1400,
          labels: { team: 'shop' },
        })
        await ok(machine, 'pod', 'run', 'a', '--network', 'lan', '--', ...serve('a'))
        await ok(machine, 'pod', 'run', 'b', '--network', 'backend', '--', ...serve('b'))
        const own = ['--ip', '10.21.0.77', '--mac', '02:00:00:00:00:77']
        await ok(machine, 'pod', 'run', 'c', '--network', 'lan', ...own, '--', ...serve('c'))
        machine.spawn('ip', 'netns', 'exec', 'outside', ...serve('outside'))
        const pods = JSON.parse(await ok(machine, 'pod', 'ls', '--json')) as PodView[]
        const [a, b, c] = pods
        expect(a).toMatchObject({ ips: ['10.20.0.129'] })
        expect(c).toMatchObject({ ips: ['10.21.0.77'], mac: '02:00:00:00:00:77' })
        await expect.poll(() => reaches(machine, 'a', '192.0.2.1'), { timeout: 5000 }).toBe(true)
        await expect.poll(() => reaches(machine, 'a', '10.21.0.77'), { timeout: 5000 }).toBe(true)
        expect(await reaches(machine, 'b', '192.0.2.1')).toBe(false)

        // A pod of the internal network gets out through the one that it is connected to, and no more after that.
        expect(await ok(machine, 'network', 'connect', 'lan', 'b', '--ip', '10.20.0.9')).toContain('eth1 10.20.0.9')
        expect(await reaches(machine, 'b', '192.0.2.1')).toBe(true)
        expect(await reaches(machine, 'a', '10.20.0.9')).toBe(true)

        await daemon.end('SIGKILL')
        await machine.startDaemon('networks: [{name: backend, internal: true}]\n')
        expect(await reaches(machine, 'b', '10.21.0.77')).toBe(true)
        const [lan] = JSON.parse(await ok(machine, 'network', 'inspect', 'lan')) as NetworkDetailsView[]
        expect(lan?.attached.map(({ owner }) => owner)).toEqual(['pod default/a', 'pod default/c', 'pod default/b'])
        expect((await ok(machine, 'network', 'ls')).split('\n').map((line) => line.split(/\s+/)[0])).toEqual([
          'NAME',
          'default',
          'backend',
          'lan',
          '',
        ])

        await ok(machine, 'network', 'disconnect', 'lan', 'b')
        expect((await exec(machine, 'b', 'ip', 'link', 'show', 'eth1')).code).not.toBe(0)
        expect(await reaches(machine, 'b', b?.ips[0] ?? '')).toBe(true)
        const inUse = await machine.fairlead('network', 'rm', 'lan')
        expect(inUse.stderr).toContain('network lan is in use by pod default/a, pod default/c (remove or disconnect')
        await ok(machine, 'pod', 'rm', 'a', 'c')
        await ok(machine, 'network', 'rm', 'lan')
        expect((await machine.run('ip', 'link', 'show', 'fl-lan')).code).not.toBe(0)
        expect((await machine.run('nft', 'list', 'ruleset')).stdout).not.toContain('fl-lan')
      },
    )

    test('bad input is a clear error and leaves nothing half made', { timeout: 120_000 }, async () => {
      await using machine = await Machine.create()
      await machine.startDaemon('network: {subnets: [10.7.0.0/24], ipv6: false}\n')
      await ok(machine, 'pod', 'run', 'a', '--ip', '10.7.0.9')
      await machine.run('ip', 'link', 'add', 'mine', 'type', 'bridge')
      const links = async (): Promise<string> => (await machine.run('ip', '-o', 'link')).stdout
      const before = [await links(), (await machine.run('nft', 'list', 'ruleset')).stdout]
      const create = ['network', 'create', 'x'] as const
      const run = ['pod', 'run', 'x'] as const
      const refused: [readonly string[], RegExp][] = [
        [
          [...create, '--subnet', '10.7.0.128/25'],
          /subnet 10\.7\.0\.128\/25 of network x overlaps subnet 10\.7\.0\.0\/24/,
        ],
        [[...create, '--subnet', '192.0.2.0/25'], /overlaps route 192\.0\.2\.0\/24 dev eth0/],
        [[...create, '--subnet', '10.8.0.0/24', '--gateway', '10.9.0.1'], /gateway 10\.9\.0\.1 .* is outside/],
        [[...create, '--bridge', 'a name'], /bridge: "a name" is not an interface name/],
        [[...create, '--interface-name', 'far-too-long-a-name'], /interfaceName: .* is not an interface name/],
        [[...create, '--mtu', '100'], /mtu: 100 is not a whole number from 1280 to 65535/],
        [[...create, '--bridge', 'mine'], /bridge mine of network x exists and is not ours/],
        [[...create, '--bridge', 'fl0'], /bridge fl0 of network x is that of network default/],
        [[...create, '--driver', 'overlay'], /driver: "overlay" is not known here/],
        [['network', 'create', 'default'], /network default exists already/],
        [['network', 'create', 'My_Net'], /"My_Net" is not a name/],
        [['network', 'rm', 'default'], /network default stands in the configuration/],
        [['network', 'rm', 'nobody'], /there is no network nobody/],
        [[...run, '--ip', '10.7.0.9'], /10\.7\.0\.9 is in use already/],
        [[...run, '--ip', '10.7.0.1'], /10\.7\.0\.1 is the network's own/],
        [[...run, '--ip', '10.9.0.1'], /10\.9\.0\.1 is in no subnet of network default/],
        [[...run, '--mac', '01:00:00:00:00:01'], /cannot be a link's address/],
        [[...run, '--network', 'nobody'], /there is no network "nobody"/],
        [['network', 'connect', 'default', 'a'], /pod default\/a has an endpoint already in network default/],
        [['network', 'disconnect', 'default', 'a'], /default is the only network of pod default\/a/],
      ]
      for (const [words, message] of refused) {
        const { code, stderr } = await machine.fairlead(...words)
        expect({ words, code, stderr }).toEqual({ words, code: 1, stderr: expect.stringMatching(message) as string })
      }
      expect([await links(), (await machine.run('nft', 'list', 'ruleset')).stdout]).toEqual(before)
    })

    test(
      'Network manifests make, change and remove networks, and pods keep one in use',
      { timeout: 120_000 },
      async () => {
        await using machine = await Machine.create()
        const file = (spec: string): string =>
          machine.write(
            'lan.yaml',
            `apiVersion: fairlead.dev/v1alpha1\nkind: Network\nmetadata: {name: lan}\nspec: ${spec}\n`,
          )
        const path = file('{subnets: [10.20.0.0/24], ipv6: false}')
        const config = `sources: {files: [${path}]}\n`
        const daemon = await machine.startDaemon(config)
        const networks = async (): Promise<readonly string[]> => {
          const all = JSON.parse(await ok(machine, 'network', 'ls', '--json')) as NetworkSummaryView[]
          return all
            .slice(1)
            .map(({ name, origin, subnets }) => `${name} ${origin} ${subnets.map((s) => s.subnet).join()}`)
        }
        await expect.poll(networks, { timeout: 5000 }).toEqual(['lan manifest 10.20.0.0/24'])
        expect((await machine.fairlead('network', 'rm', 'lan')).stderr).toContain('network lan stands in a manifest')
        file('{subnets: [10.21.0.0/24], ipv6: false}')
        await expect.poll(networks, { timeout: 5000 }).toEqual(['lan manifest 10.21.0.0/24'])

        await ok(machine, 'pod', 'run', 'a', '--network', 'lan')
        await daemon.end('SIGKILL')
        const again = await machine.startDaemon(config)
        expect(await ok(machine, 'pod', 'ls')).toContain('10.21.0.2')
        machine.write('lan.yaml', '')
        await expect.poll(() => again.log, { timeout: 5000 }).toContain('network lan is in use by pod default/a')
        expect(await networks()).toEqual(['lan manifest 10.21.0.0/24'])
        await ok(machine, 'pod', 'rm', 'a')
        await expect.poll(networks, { timeout: 5000 }).toEqual([])
      },
    )

    test('MTU follows the uplink while the daemon runs, into the pods', { timeout: 120_000 }, async () => {
      await using machine = await Machine.create()
      await machine.startDaemon('networks: [{name: fixed, mtu: 1450}]\n')
      await ok(machine, 'pod', 'run', 'a')
      await machine.run('ip', 'link', 'set', 'eth0', 'mtu', '1380')
      const mtus = async (): Promise<(string | undefined)[]> => {
        const inPod = await exec(machine, 'a', 'cat', '/proc/sys/net/ipv6/conf/eth0/mtu')
        const [bridge, fixed] = await Promise.all(
          ['fl0', 'fl-fixed'].map((name) => machine.run('cat', `/proc/sys/net/ipv6/conf/${name}/mtu`)),
        )
        return [inPod, bridge, fixed].map((ran) => ran?.stdout.trim())
      }
      await expect.poll(mtus, { timeout: 5000 }).toEqual(['1380', '1380', '1450'])
    })
  },
)
