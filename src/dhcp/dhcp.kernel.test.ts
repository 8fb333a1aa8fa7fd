import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { FakeClock, type Clock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { run } from '../linux/exec.ts'
import { writeSysctl } from '../linux/sysctl.ts'
import { parseMac } from '../net/mac-address.ts'
import { DhcpLan, dnsmasqPath, ip } from '../../test/lab/dhcp-lan.ts'
import type { DhcpClient, LeaseStorage } from './dhcp-client.ts'
import type { DhcpLease } from './lease.ts'
import { openDhcpClient } from './open-dhcp-client.ts'

describe.skipIf(!dnsmasqPath)(
  `DhcpClient and dnsmasq${dnsmasqPath ? '' : ' (skipped: Debian package dnsmasq-base is not there)'}`,
  () => {
    let lan: DhcpLan
    beforeAll(async () => (lan = await DhcpLan.open()))
    afterEach(async () => {
      await lan.stopServer()
      lan.forgetLeases()
    })
    afterAll(() => lan[Symbol.asyncDispose]())

    test('takes a lease with all that comes with it, says its host name, and releases it', async () => {
      await lan.startServer('192.168.77.100,192.168.77.150,120', [
        '--dhcp-option=option:router,192.168.77.1',
        '--dhcp-option=option:dns-server,192.168.77.1,192.168.77.2',
        '--dhcp-option=option:domain-name,lan.example.org',
        '--dhcp-option=option:mtu,1400',
      ])
      const pod = await createPod('02:00:00:00:00:11')
      // With it, the kernel drops what comes to a link without address: docs/adr/0006-dhcp-over-packet-sockets.md.
      writeSysctl('net.ipv4.conf.all.rp_filter', 1, { netns: pod.netns })
      const client = pod.client({ hostname: 'web-1' })
      expect(await pod.next('bound')).toMatchObject({
        address: { address: expect.stringMatching(/^192\.168\.77\.1\d\d$/), prefix: 24 },
        routers: ['192.168.77.1'],
        dnsServers: ['192.168.77.1', '192.168.77.2'],
        domain: 'lan.example.org',
        mtu: 1400,
        server: '192.168.77.1',
        expiresAfter: 120_000,
      })
      expect(lan.leases).toMatchObject([{ mac: '02:00:00:00:00:11', name: 'web-1', ip: client.lease?.address.address }])
      client.release()
      await vi.waitFor(() => expect(lan.leases).toEqual([]), 5000)
      expect(client.state).toBe('stopped')
    })

    test('renews the lease by unicast from the address that it has, and says what changed', async () => {
      await lan.startServer('192.168.77.100,192.168.77.150,120')
      const pod = await createPod('02:00:00:00:00:12')
      const client = pod.client()
      const lease = await pod.next('bound')
      await pod.use(lease)
      const before = lan.leases[0]!.expires
      await new Promise((resolve) => setTimeout(resolve, 1100))
      client.renew()
      expect(client.state).toBe('renewing')
      await vi.waitFor(() => expect(client.state).toBe('bound'), 5000)
      expect(lan.leases[0]!.expires).toBeGreaterThan(before)
      await lan.stopServer()
      await lan.startServer('192.168.77.100,192.168.77.150,120', ['--dhcp-option=option:mtu,1300'])
      client.renew()
      expect(await pod.next('changed')).toMatchObject({ address: lease.address, mtu: 1300 })
      // The kernel saw the answers too, and found nobody to give them to but the port that is never read.
      const { stdout } = await run(['nstat', '-az', 'IcmpOutDestUnreachs'], { netns: pod.netns })
      expect(stdout).toMatch(/IcmpOutDestUnreachs +0 /)
    })

    test('keeps the lease over a restart of the client', async () => {
      await lan.startServer('192.168.77.100,192.168.77.150,120')
      const pod = await createPod('02:00:00:00:00:13')
      const first = pod.client()
      const lease = await pod.next('bound')
      first[Symbol.dispose]()
      const second = pod.client()
      // At once, before the server was asked.
      expect(second.state).toBe('rebooting')
      expect(await pod.next('bound')).toEqual(lease)
      await vi.waitFor(() => expect(second.state).toBe('bound'), 5000)
      expect(lan.leases).toHaveLength(1)
    })

    test('a server that changed its range refuses the kept lease: it is lost, and a new one taken', async () => {
      await lan.startServer('192.168.77.100,192.168.77.150,120')
      const pod = await createPod('02:00:00:00:00:14')
      pod.client()
      const lease = await pod.next('bound')
      pod.stop()
      await lan.stopServer()
      lan.forgetLeases()
      await lan.startServer('192.168.77.200,192.168.77.220,120', ['--dhcp-authoritative'])
      pod.client()
      expect(await pod.next('bound')).toEqual(lease)
      expect(await pod.next('lost')).toEqual(lease)
      expect((await pod.next('bound')).address.address).toMatch(/^192\.168\.77\.2\d\d$/)
    })

    test('two pods at once get an address each, and reach each other by them', async () => {
      await lan.startServer('192.168.77.100,192.168.77.150,120')
      const pods = [await createPod('02:00:00:00:00:15'), await createPod('02:00:00:00:00:16')]
      for (const pod of pods) pod.client()
      const taken = await Promise.all(pods.map((pod) => pod.next('bound')))
      for (const [i, lease] of taken.entries()) await pods[i]!.use(lease)
      expect(new Set(taken.map(({ address }) => address.address)).size).toBe(2)
      // Nobody listens there: being refused means having been reached.
      const { stderr } = await run(['curl', '-sv', '-m2', `http://${taken[1]!.address.address}:1`], {
        netns: pods[0]!.netns,
      })
      expect(stderr).toContain('Connection refused')
    })

    test('declines addresses that a neighbour has, until it gets a free one', async () => {
      const neighbour = await createPod('02:00:00:00:00:19')
      for (const last of [170, 171]) await ip(neighbour.netns, `address add 192.168.77.${last}/24 dev eth0`)
      await lan.startServer('192.168.77.170,192.168.77.172,120')
      const pod = await createPod('02:00:00:00:00:17')
      const client = pod.client({ conflictCheckMs: 100 })
      await vi.waitFor(() => {
        // The pause after a decline is 10 s.
        if (client.state === 'init') client.renew()
        expect(client.state).toBe('bound')
      }, 5000)
      expect(client.lease?.address.address).toBe('192.168.77.172')
      expect(lan.output).toContain('DHCPDECLINE')
    })

    test('a server that is gone is waited for; a link that is down or gone does no harm', async () => {
      const pod = await createPod('02:00:00:00:00:18')
      const client = pod.client()
      expect(client.state).toBe('selecting')
      await lan.startServer('192.168.77.100,192.168.77.150,120')
      client.renew()
      await pod.next('bound')
      await ip(pod.netns, 'link set eth0 down')
      client.renew()
      expect(client.state).toBe('renewing')
      await ip(pod.netns, 'link del eth0')
      client.renew()
      client.release()
      expect(client.state).toBe('stopped')
    })

    test('asks its server from half of the time on, everybody from 7/8 on, and gives up at the end', async () => {
      const range = '192.168.77.100,192.168.77.150,120'
      await lan.startServer(range)
      const clock = new FakeClock()
      const pod = await createPod('02:00:00:00:00:1a')
      const client = pod.client({ clock })
      await pod.use(await pod.next('bound'))
      await lan.stopServer()
      await clock.advance(60_000)
      expect(client.state).toBe('renewing')
      await lan.startServer(range)
      await clock.advance(45_000)
      expect(client.state).toBe('rebinding')
      await vi.waitFor(() => expect(client.state).toBe('bound'), 5000)
      await lan.stopServer()
      await clock.advance(119_000)
      expect(client.state).toBe('rebinding')
      await clock.advance(1000)
      await pod.next('lost')
      expect(client.state).toBe('selecting')
    })

    /** A namespace with a macvlan link that is up and has no address, and what the client in it says. */
    async function createPod(mac: string) {
      const netns = await lan.createPod(mac)
      const clients: DhcpClient[] = []
      onTestFinished(() => {
        for (const client of clients) client[Symbol.dispose]()
        netns[Symbol.dispose]()
      })
      const heard: { readonly what: string; readonly lease: DhcpLease }[] = []
      const storage = memoryStorage()
      return {
        netns,
        client(options: { hostname?: string; conflictCheckMs?: number; clock?: Clock } = {}): DhcpClient {
          const hear = (what: string) => (lease: DhcpLease) => void heard.push({ what, lease })
          const client = openDhcpClient({
          link: 'eth0', netns, mac: parseMac(mac), storage, log: silentLog, conflictCheckMs: 0, ...options,
          events: { bound: hear('bound'), changed: hear('changed'), lost: hear('lost') },
        }) // prettier-ignore
          clients.push(client)
          return client
        },
        stop: () => clients.forEach((client) => client[Symbol.dispose]()),
        async next(what: string): Promise<DhcpLease> {
          const event = await vi.waitFor(() => heard.shift() ?? expect.fail(`no ${what}`), 5000)
          expect(event.what).toBe(what)
          return event.lease
        },
        use: (lease: DhcpLease) => ip(netns, `address add ${lease.address.address}/${lease.address.prefix} dev eth0`),
      }
    }
  },
)

function memoryStorage(): LeaseStorage {
  let kept: string | undefined
  return { load: () => kept, save: (text) => void (kept = text), clear: () => void (kept = undefined) }
}
