import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { NetworkDetailsView, PodView } from '../../src/daemon/control-api.ts'
import { dnsmasqPath } from '../lab/dhcp-lan.ts'
import { patience } from '../lab/patience.ts'
import { Machine, machineObstacle } from './machine.ts'

const obstacle = machineObstacle()

async function ok(machine: Machine, ...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await machine.fairlead(...words)
  expect({ words, code, stderr }).toEqual({ words, code: 0, stderr: '' })
  return stdout
}

async function shell(machine: Machine, script: string): Promise<string> {
  const { code, stdout, stderr } = await machine.run('sh', '-ec', script)
  expect({ script, code, stderr }).toEqual({ script, code: 0, stderr: '' })
  return stdout
}

/** A second link of the machine, eth1, on a LAN with the host 192.168.77.1 (in the namespace `outside`). */
const lan = `
  ip link add eth1 type veth peer name lan1 netns outside && ip link set eth1 up && ip -n outside link set lan1 up
  ip -n outside addr add 192.168.77.1/24 dev lan1`

const inPod = (machine: Machine, pod: string, ...words: readonly string[]): Promise<string> =>
  ok(machine, 'pod', 'exec', pod, '--', ...words)

/** Whether the pod gets an answer of the LAN's host. */
const reaches = async (machine: Machine, pod: string): Promise<boolean> =>
  (
    await machine.fairlead(
      'pod',
      'exec',
      pod,
      '--',
      'curl',
      '-sS',
      '--max-time',
      String(patience(2000) / 1000),
      'http://192.168.77.1:8080',
    )
  ).code === 0

function serveOutside(machine: Machine): void {
  const server = new URL('../../examples/hello/server.js', import.meta.url).pathname
  machine.spawn('ip', 'netns', 'exec', 'outside', process.execPath, server, 'outside', '8080')
}

/** proc_pid_children(5) */
function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return text === '' ? [] : text.split(' ').map(Number)
}

describe.skipIf(obstacle !== undefined)(`networks on the LAN${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  test.skipIf(!dnsmasqPath)(
    `macvlan with dnsmasq: a lease is taken, kept over a kill -9 of the daemon, renewed, and released with the pod${dnsmasqPath ? '' : ' (skipped: Debian package dnsmasq-base is not there)'}`,
    { timeout: patience(120_000) },
    async () => {
      await using machine = await Machine.create()
      await shell(machine, lan)
      const file = join(machine.folder, 'dhcp-leases')
      const leases = (): string[][] =>
        readFileSync(file, 'utf8')
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => line.split(' '))
      const serve = () =>
        machine.spawn(
          'ip', 'netns', 'exec', 'outside', dnsmasqPath ?? '', '--keep-in-foreground', '--conf-file=/dev/null', '--port=0',
          '--interface=lan1', '--bind-interfaces', '--no-ping', '--user=root', '--pid-file=', `--dhcp-leasefile=${file}`,
          '--dhcp-range=192.168.77.100,192.168.77.150,120', '--dhcp-option=option:dns-server,192.168.77.53',
          '--dhcp-option=option:domain-name,office.example',
        ) // prettier-ignore
      const dnsmasq = serve()
      serveOutside(machine)
      const daemon = await machine.startDaemon('')
      expect(
        await ok(machine, 'network', 'create', 'office', '--driver', 'macvlan', '--parent', 'eth1', '--dhcp'),
      ).toBe('network office is up: macvlan of mode bridge on eth1, addresses by DHCP\n')
      const pod = JSON.parse(
        await ok(machine, 'pod', 'run', 'a', '--network', 'office', '--json', '--', 'sleep', '900'),
      ) as PodView
      const [ip = ''] = pod.ips
      expect(ip).toMatch(/^192\.168\.77\.1\d\d$/)
      expect(leases()).toMatchObject([[expect.any(String), pod.mac, ip, 'a', expect.any(String)]])
      expect(await reaches(machine, 'a')).toBe(true)
      expect(await inPod(machine, 'a', 'cat', '/etc/resolv.conf')).toBe(
        'nameserver 192.168.77.53\nsearch office.example\n',
      )
      const expires = leases()[0]![0]

      await daemon.end('SIGKILL')
      expect(await shell(machine, 'ip netns exec fl-default.a ip -4 addr show eth0')).toContain(ip)
      await machine.startDaemon('')
      const [office] = JSON.parse(await ok(machine, 'network', 'inspect', 'office')) as NetworkDetailsView[]
      expect(office).toMatchObject({
        driver: 'macvlan',
        parent: 'eth1',
        attached: [{ owner: 'pod default/a', ips: [ip], port: 'eth1', state: 'up', dhcp: { server: '192.168.77.1' } }],
      })
      // The new daemon asks whether the lease still holds (INIT-REBOOT), which prolongs it.
      await expect.poll(() => leases()[0]?.[0], { timeout: patience(5000) }).not.toBe(expires)
      expect(await reaches(machine, 'a')).toBe(true)

      // A pod on a bridge that is connected besides keeps its way out, and its names; when it leaves the bridge, it has the LAN's.
      await ok(machine, 'pod', 'run', 'b')
      await ok(machine, 'network', 'connect', 'office', 'b')
      expect(await inPod(machine, 'b', 'ip', '-4', 'route', 'show', 'default')).toMatch(
        /^default via [0-9.]+ dev eth0 /,
      )
      await ok(machine, 'network', 'disconnect', 'default', 'b')
      expect(await inPod(machine, 'b', 'ip', '-4', 'route', 'show', 'default')).toContain('via 192.168.77.1 dev eth1')
      expect(await inPod(machine, 'b', 'cat', '/etc/resolv.conf')).toContain('192.168.77.53')

      await ok(machine, 'pod', 'rm', 'a')
      await expect.poll(() => leases().map(([, , , name]) => name), { timeout: patience(5000) }).toEqual(['b'])

      // The parent goes and comes back: the link is made anew, with the same address.
      const before = await inPod(machine, 'b', 'ip', '-4', '-br', 'addr', 'show', 'eth1')
      await shell(machine, 'ip link del eth1')
      await shell(machine, lan)
      await expect.poll(() => reaches(machine, 'b'), { timeout: patience(5000) }).toBe(true)
      expect((await inPod(machine, 'b', 'ip', '-4', '-br', 'addr', 'show', 'eth1')).split('UP')[1]).toBe(
        before.split('UP')[1],
      )
      await ok(machine, 'pod', 'rm', 'b')
      dnsmasq.kill()
      await ok(machine, 'network', 'rm', 'office')
    },
  )

  test(
    'macvlan with a pool, host and none: addresses, processes and errors',
    { timeout: patience(120_000) },
    async () => {
      await using machine = await Machine.create()
      await shell(
        machine,
        `${lan}\nip addr add 192.168.77.33/24 dev eth1\nip link add br7 type bridge && ip link add p7 type veth peer name q7 && ip link set p7 master br7`,
      )
      serveOutside(machine)
      const manifest = machine.write(
        'lan.yaml',
        `apiVersion: fairlead.dev/v1alpha1
kind: Network
metadata: {name: lan}
spec: {driver: macvlan, parent: eth1, mode: private, subnets: [192.168.77.0/24], ipRanges: [192.168.77.32/28]}
`,
      )
      await machine.startDaemon(`sources: {files: [${manifest}]}\n`)
      await expect
        .poll(() => ok(machine, 'network', 'ls'), { timeout: patience(5000) })
        .toMatch(/lan +macvlan +eth1 +192\.168\.77\.0\/24 +0 +manifest/)
      // 192.168.77.33 is the machine's own.
      expect(await ok(machine, 'pod', 'run', 'a', '--network', 'lan')).toContain('192.168.77.32')
      expect(await ok(machine, 'pod', 'run', 'b', '--network', 'lan')).toContain('192.168.77.34')
      const own = ['--ip', '192.168.77.99', '--mac', '02:00:00:00:00:99']
      await ok(machine, 'pod', 'run', 'c', '--network', 'lan', ...own)
      expect(await inPod(machine, 'c', 'ip', 'addr', 'show', 'eth0')).toMatch(
        /02:00:00:00:00:99.*192\.168\.77\.99\/24/s,
      )
      expect(await reaches(machine, 'c')).toBe(true)

      await ok(machine, 'pod', 'run', 'h', '--network', 'host', '--', 'sleep', '901')
      await ok(machine, 'pod', 'run', 'n', '--network', 'none')
      expect((await inPod(machine, 'n', 'ls', '/sys/class/net', '/proc/sys/net/ipv4/conf')).includes('lo')).toBe(true)
      expect(await inPod(machine, 'n', 'ip', '-o', 'link')).toMatch(/^1: lo: .*\n$/)
      expect(await inPod(machine, 'h', 'ip', 'link', 'show', 'eth1')).toContain('eth1')
      const pods = JSON.parse(await ok(machine, 'pod', 'ls', '--json')) as PodView[]
      expect(pods.filter(({ network }) => network === 'host' || network === 'none')).toMatchObject([
        { name: 'h', ips: ['192.0.2.2', '2001:db8:2::2'], state: 'running' },
        { name: 'n', ips: [] },
      ])

      const create = ['network', 'create', 'x', '--driver', 'macvlan'] as const
      const run = (name: string): readonly string[] => ['pod', 'run', name]
      const refused: [readonly string[], RegExp][] = [
        [
          [...create, '--parent', 'eth9', '--dhcp'],
          /parent eth9 of network x is no link of this host \(expected one of: eth0, eth1/,
        ],
        [[...create, '--parent', 'p7', '--dhcp'], /is a port of bridge br7, .*use br7 itself as parent/],
        [[...create, '--parent', 'eth1', '--dhcp', '--ipvlan-mode', 'l3'], /--ipvlan-mode is not for driver macvlan/],
        [['network', 'create', 'x', '--subnet', '192.168.77.0/25'], /overlaps/],
        [['network', 'rm', 'host'], /network host is always there/],
        [['network', 'connect', 'lan', 'h'], /it is in network host/],
        [[...run('x1'), '--network', 'host', '--publish', '80'], /network host takes no published ports/],
        [[...run('x2'), '--network', 'lan', '--mac', '02:00:00:00:00:99'], /another link on eth1 has this address/],
        [
          [...run('x3'), '--network', 'nobody'],
          /there is no network "nobody" \(expected one of: default, lan, host, none\)/,
        ],
      ]
      const outcomes = await Promise.all(refused.map(([words]) => machine.fairlead(...words)))
      for (const [index, [words, message]] of refused.entries()) {
        expect({ words, stderr: outcomes[index]?.stderr }).toEqual({
          words,
          stderr: expect.stringMatching(message) as string,
        })
      }
      expect(await shell(machine, 'ls /run/netns')).not.toMatch(/\.x\d/)

      // Pods in the host's network end with all of their processes, and nobody else does.
      const shellOf = pods.find(({ name }) => name === 'h')?.pid ?? 0
      const processes = [shellOf, ...childrenOf(shellOf)]
      expect(processes).toHaveLength(2)
      await ok(machine, 'pod', 'rm', 'h')
      expect(processes.filter((pid) => existsSync(`/proc/${pid}/exe`))).toEqual([])
      expect((await machine.status())?.ready).toBe(true)
    },
  )
})
