import { expect, test } from 'vitest'
import { createAnonymousNetns, type Netns } from '../linux/netns.ts'
import { parseMac } from '../net/mac-address.ts'
import { openRtnetlink } from '../rtnetlink/rtnetlink.ts'
import { ip } from '../../test/lab/dhcp-lan.ts'
import { openBridgeKernel, type BridgeKernel } from './kernel.ts'
import { createLanLink, deleteLanLink, driverObstacle, LanLinkError, type LanLink } from './lan-link.ts'

const mac = parseMac('02:00:00:00:00:31')

interface Machine {
  readonly host: Netns
  readonly kernel: BridgeKernel
  readonly link: LanLink
}

/** A host with a link `uplink` of MTU 1400, and an empty pod. */
async function withMachine(work: (machine: Machine) => Promise<void>): Promise<void> {
  using host = createAnonymousNetns()
  using pod = createAnonymousNetns()
  await ip(host, 'link add uplink mtu 1400 type veth peer name lan')
  await ip(host, 'link set uplink up')
  await ip(host, 'link set lan up')
  using kernel = openBridgeKernel({ netns: host })
  await work({ host, kernel, link: { owner: 'pod default/web-1', netns: pod.path, link: 'eth0', mac } })
}

test("createLanLink: up, ours by alias and group, with its parent's MTU; deleteLanLink: gone, twice", () =>
  withMachine(async ({ kernel, link }) => {
    expect(await createLanLink({ driver: 'macvlan', parent: 'uplink', mode: 'bridge' }, link, kernel)).toBe(mac)
    using inside = kernel.openNamespace(link.netns)
    const expected = { kind: 'macvlan', mac, mtu: 1400, up: true, carrier: true, alias: 'fairlead pod default/web-1' }
    expect(await inside.rtnetlink.links.get('eth0')).toMatchObject({ ...expected, group: 0x666c })
    for (let i = 0; i < 2; i++) await deleteLanLink(link, kernel)
    expect(await inside.rtnetlink.links.find('eth0')).toBeUndefined()
    await deleteLanLink({ netns: '/run/netns/fl-none.none', link: 'eth0' }, kernel)
  }))

test('createLanLink: in mode passthru it has the MAC address of its parent, and shares it with none', () =>
  withMachine(async ({ host, kernel, link }) => {
    using rtnetlink = openRtnetlink({ netns: host })
    const parent = await rtnetlink.links.get('uplink')
    expect(await createLanLink({ driver: 'macvlan', parent: 'uplink', mode: 'passthru' }, link, kernel)).toBe(
      parent.mac,
    )
    const second = createLanLink(
      { driver: 'macvlan', parent: 'uplink', mode: 'bridge' },
      { ...link, link: 'eth1' },
      kernel,
    )
    await expect(second).rejects.toThrow(
      /link uplink takes no macvlan of mode bridge: .*has a macvlan of mode passthru/,
    )
  }))

test.each([
  { what: 'a parent that is not there', parent: 'eth9', change: {}, error: 'there is no link eth9 on this host' },
  { what: "an MTU above the parent's", parent: 'uplink', change: { mtu: 1500 }, error: 'expected at most 1400' },
  { what: 'a parent that is no Ethernet', parent: 'lo', change: {}, error: 'link lo takes no macvlan of mode bridge' },
])('createLanLink: $what is refused, and nothing is left', ({ parent, change, error }) =>
  withMachine(async ({ kernel, link }) => {
    const attempt = createLanLink({ driver: 'macvlan', parent, mode: 'bridge' }, { ...link, ...change }, kernel)
    await expect(attempt).rejects.toThrow(LanLinkError)
    await expect(attempt).rejects.toThrow(error)
    using inside = kernel.openNamespace(link.netns)
    expect(await inside.rtnetlink.links.find('eth0')).toBeUndefined()
  }),
)

test('createLanLink: two pods cannot have one MAC address on one parent', () =>
  withMachine(async ({ kernel, link }) => {
    await createLanLink({ driver: 'macvlan', parent: 'uplink', mode: 'bridge' }, link, kernel)
    const second = createLanLink(
      { driver: 'macvlan', parent: 'uplink', mode: 'bridge' },
      { ...link, link: 'eth1' },
      kernel,
    )
    await expect(second).rejects.toThrow('another link on uplink has this address')
    using inside = kernel.openNamespace(link.netns)
    expect((await inside.rtnetlink.links.list()).map(({ name }) => name)).toEqual(['lo', 'eth0'])
  }))

test('createLanLink: a name that a link of the host has is no obstacle (it is one to Linux 6.1)', () =>
  withMachine(async ({ host, kernel, link }) => {
    await ip(host, 'link add eth0 type veth peer name other')
    await createLanLink({ driver: 'macvlan', parent: 'uplink', mode: 'bridge' }, link, kernel)
    using inside = kernel.openNamespace(link.netns)
    expect(await inside.rtnetlink.links.get('eth0')).toMatchObject({ kind: 'macvlan', up: true })
  }))

test('createLanLink: an ipvlan shares the MAC address of its parent; a kernel without it says so', () =>
  withMachine(async ({ host, kernel, link }) => {
    const obstacle = await driverObstacle('ipvlan', kernel)
    const made = createLanLink({ driver: 'ipvlan', parent: 'uplink', mode: 'l2' }, link, kernel)
    if (obstacle !== undefined) {
      expect(obstacle).toContain('CONFIG_IPVLAN')
      await expect(made).rejects.toThrow(obstacle)
      return
    }
    using rtnetlink = openRtnetlink({ netns: host })
    expect(await made).toBe((await rtnetlink.links.get('uplink')).mac)
    using inside = kernel.openNamespace(link.netns)
    expect(await inside.rtnetlink.links.get('eth0')).toMatchObject({ kind: 'ipvlan', up: true, group: 0x666c })
    const second = createLanLink(
      { driver: 'macvlan', parent: 'uplink', mode: 'bridge' },
      { ...link, link: 'eth1' },
      kernel,
    )
    await expect(second).rejects.toThrow('link uplink is in use by something')
  }))
