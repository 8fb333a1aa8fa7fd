import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { silentLog } from '../base/log.ts'
import { run } from '../linux/exec.ts'
import type { Netns } from '../linux/netns.ts'
import { parseMac } from '../net/mac-address.ts'
import { DhcpLan, dnsmasqPath, ip } from '../../test/lab/dhcp-lan.ts'
import { DhcpEndpoints, NoDhcpLeaseError, type DhcpEndpoint } from './dhcp-endpoints.ts'

const skipReason = dnsmasqPath ? '' : ' (skipped: Debian package dnsmasq-base is not there)'

describe.skipIf(!dnsmasqPath)(`DhcpEndpoints${skipReason}`, () => {
  const range = '192.168.77.100,192.168.77.150,120'
  const classlessRoutes = '--dhcp-option=option:classless-static-route,10.50.0.0/16,192.168.77.9,0.0.0.0/0,192.168.77.1'
  let lan: DhcpLan
  beforeAll(async () => (lan = await DhcpLan.open()))
  afterEach(async () => {
    await lan.stopServer()
    lan.forgetLeases()
  })
  afterAll(() => lan[Symbol.asyncDispose]())

  test('attach: the link has address, routes and MTU of the lease; detach gives the lease back', async () => {
    await lan.startServer(range, ['--dhcp-option=option:mtu,1400', classlessRoutes])
    const { endpoint, endpoints, changes, netns, stateDir } = await setUp('02:00:00:00:00:21')
    const lease = await endpoints.attach(endpoint)
    const { address } = lease.address
    expect(changes).toEqual([address])
    expect(endpoints.lease(endpoint)).toBe(lease)
    expect(await show(netns, 'address show eth0')).toMatch(new RegExp(`mtu 1400.*inet ${address}/24`, 's'))
    const routes = await show(netns, 'route show')
    expect(routes).toContain(`default via 192.168.77.1 dev eth0 proto dhcp src ${address}`)
    expect(routes).toContain(`10.50.0.0/16 via 192.168.77.9 dev eth0 proto dhcp src ${address}`)
    expect(lan.leases).toMatchObject([{ ip: address, name: 'web-1' }])
    await endpoints.detach(endpoint)
    await vi.waitFor(() => expect(lan.leases).toEqual([]))
    expect(readdirSync(join(stateDir, 'dhcp'))).toEqual([])
  })

  test('a restart keeps the address on the link; a server that refuses it then gives another', async () => {
    await lan.startServer(range, [classlessRoutes])
    const { endpoint, endpoints, open, netns } = await setUp('02:00:00:00:00:22')
    const lease = await endpoints.attach(endpoint)
    await endpoints[Symbol.asyncDispose]()
    expect(await show(netns, 'address show eth0')).toContain(lease.address.address)
    const second = open()
    await second.resume([endpoint])
    expect(second.lease(endpoint)).toEqual(lease)
    await second[Symbol.asyncDispose]()

    await lan.stopServer()
    lan.forgetLeases()
    await lan.startServer('192.168.77.200,192.168.77.220,120', ['--dhcp-authoritative'])
    const third = open()
    await third.resume([endpoint])
    await vi.waitFor(() => expect(third.lease(endpoint)?.address.address).toMatch(/\.2\d\d$/), 5000)
    const addresses = await show(netns, 'address show eth0')
    expect(addresses).not.toContain(lease.address.address)
    expect(addresses).toContain(third.lease(endpoint)?.address.address)
    expect(await show(netns, 'route show')).not.toContain('10.50.0.0/16')
  })

  test('repair: what another program took from the link comes back', async () => {
    await lan.startServer(range, [classlessRoutes])
    const { endpoint, endpoints, netns } = await setUp('02:00:00:00:00:23')
    await endpoints.attach(endpoint)
    const before = await show(netns, 'route show')
    await ip(netns, 'address flush dev eth0')
    expect(await show(netns, 'route show')).toBe('')
    await endpoints.repair(endpoint)
    expect(await show(netns, 'route show')).toBe(before)
    await endpoints.repair(endpoint)
    expect(await show(netns, 'route show')).toBe(before)
  })

  test('attach: no server in time is an error, and nothing is left', async () => {
    const { endpoint, open, stateDir } = await setUp('02:00:00:00:00:24')
    const endpoints = open({ timeoutMs: 100 })
    const attempt = endpoints.attach(endpoint)
    await expect(attempt).rejects.toThrow(NoDhcpLeaseError)
    await expect(attempt).rejects.toThrow('no DHCP server gave link eth0 of pod default/web-1 an address within 0.1 s')
    expect(endpoints.lease(endpoint)).toBeUndefined()
    await expect(endpoints.attach({ ...endpoint, netns: '/run/netns/fl-none.none' })).rejects.toThrow('ENOENT')
    expect(readdirSync(stateDir)).toEqual([])
  })

  test('resume: leases of endpoints that are no more are forgotten', async () => {
    await lan.startServer(range)
    const { endpoint, endpoints, open, stateDir } = await setUp('02:00:00:00:00:25')
    await endpoints.attach(endpoint)
    await endpoints[Symbol.asyncDispose]()
    expect(readdirSync(join(stateDir, 'dhcp'))).toHaveLength(1)
    await open().resume([])
    expect(readdirSync(join(stateDir, 'dhcp'))).toEqual([])
  })

  async function setUp(mac: string) {
    const stateDir = mkdtempSync(join(tmpdir(), 'dhcp-endpoints-'))
    const netns = await lan.createPod(mac)
    const opened: DhcpEndpoints[] = []
    const changes: (string | undefined)[] = []
    const open = (options: { timeoutMs?: number } = {}): DhcpEndpoints => {
      const onChange = (_: DhcpEndpoint, lease: { address: { address: string } } | undefined): void =>
        void changes.push(lease?.address.address)
      const endpoints = new DhcpEndpoints({ stateDir, onChange, log: silentLog, conflictCheckMs: 0, ...options })
      opened.push(endpoints)
      return endpoints
    }
    onTestFinished(async () => {
      for (const endpoints of opened) await endpoints[Symbol.asyncDispose]()
      netns[Symbol.dispose]()
      rmSync(stateDir, { recursive: true })
    })
    const endpoint: DhcpEndpoint = {
      owner: 'pod default/web-1',
      network: 'lan',
      netns: netns.path,
      link: 'eth0',
      mac: parseMac(mac),
      hostname: 'web-1',
    }
    return { endpoint, endpoints: open(), open, changes, netns, stateDir }
  }
})

async function show(netns: Netns, words: string): Promise<string> {
  return (await run(['ip', '-4', ...words.split(' ')], { netns })).stdout
}
