import { describe, expect, test } from 'vitest'
import { parseCidr, formatCidr } from '../../src/net/cidr.ts'
import { parseIp } from '../../src/net/ip-address.ts'
import { parseMac, randomMac } from '../../src/net/mac-address.ts'
import type { NetnsHandle } from '../../src/rtnetlink/link-requests.ts'
import { addAddress } from '../../src/rtnetlink/addresses.ts'
import type { Link } from '../../src/rtnetlink/link.ts'
import { addRoute, fairleadProtocol } from '../../src/rtnetlink/routes.ts'
import { addRule, deleteRule } from '../../src/rtnetlink/rules.ts'
import type { Rtnetlink } from '../../src/rtnetlink/rtnetlink.ts'
import { patience } from '../lab/patience.ts'

/** Two fresh namespaces of a kernel, real or fake. */
export interface TestKernel extends Disposable {
  readonly here: NetnsHandle
  readonly there: NetnsHandle
  open(netns: NetnsHandle): Rtnetlink
}

const mac = parseMac('02:00:00:00:00:01')
const cidr = parseCidr('10.9.0.1/24')

/** What every rtnetlink does, whichever kernel answers: run on the fake and on the real one, so that they cannot part. */
export function testRtnetlink(openKernel: () => TestKernel): void {
  async function withKernel(work: (here: Rtnetlink, kernel: TestKernel) => Promise<void>): Promise<void> {
    using kernel = openKernel()
    using here = kernel.open(kernel.here)
    await work(here, kernel)
  }
  const withBridge = (work: (here: Rtnetlink, bridge: Link, kernel: TestKernel) => Promise<void>): Promise<void> =>
    withKernel(async (here, kernel) => await work(here, await here.links.createBridge({ name: 'br0', mac }), kernel))

  describe('rules', () => {
    test('addRule, deleteRule: a rule is listed until it is deleted, and cannot be there twice', () =>
      withKernel(async (here) => {
        const four = { source: parseCidr('10.9.0.2/32'), table: 0x666c_0002, priority: 26_220 }
        const six = { ...four, source: parseCidr('fd00::/64') }
        await here.run([addRule(four), addRule(six)])
        const ours = async () => (await here.rules.list()).filter(({ protocol }) => protocol === fairleadProtocol)
        const listed = [
          { ...four, family: 4, protocol: fairleadProtocol },
          { ...six, family: 6, protocol: fairleadProtocol },
        ]
        expect(await ours()).toEqual(listed)
        await expect(here.run([addRule(four)])).rejects.toMatchObject({ code: 'EEXIST' })
        await here.run([deleteRule(four)])
        expect(await ours()).toEqual(listed.slice(1))
        await expect(here.run([deleteRule(four)])).rejects.toMatchObject({ code: 'ENOENT' })
      }))
  })

  describe('links', () => {
    test('list: a new namespace has a loopback that is down', () =>
      withKernel(async (here) => {
        const expected = { index: 1, name: 'lo', kind: undefined, loopback: true, up: false, mtu: 65_536 }
        expect(await here.links.list()).toMatchObject([expected])
      }))

    test('createBridge: the link has what was asked for', () =>
      withKernel(async (here) => {
        const link = await here.links.createBridge({
          name: 'br0',
          mac,
          mtu: 1400,
          group: 7,
          alias: 'hello',
          multicastSnooping: false,
        })
        const expected = { name: 'br0', kind: 'bridge', mac, mtu: 1400, group: 7, alias: 'hello', up: true }
        expect(link).toMatchObject({ ...expected, bridge: { multicastSnooping: false }, master: undefined })
        expect(await here.links.get('br0')).toEqual(link)
        expect(await here.links.get(link.index)).toEqual(link)
      }))

    test('createVeth: the peer is born in the other namespace, and each end knows the other', () =>
      withBridge(async (here, bridge, kernel) => {
        using there = kernel.open(kernel.there)
        const peerMac = randomMac()
        const link = await here.links.createVeth({
          name: 'v0',
          master: bridge.index,
          mtu: 1400,
          alias: 'web-1',
          port: { isolated: true, hairpin: true },
          peer: { name: 'eth0', mac: peerMac, netns: kernel.there },
        })
        const peer = await there.links.get('eth0')
        expect(link).toMatchObject({
          kind: 'veth',
          mtu: 1400,
          master: bridge.index,
          up: true,
          carrier: false,
          alias: 'web-1',
        })
        expect(link.port).toEqual({ isolated: true, hairpin: true, learning: true })
        expect(link.peerIndex).toBe(peer.index)
        expect(link.peerNetnsId).toBeTypeOf('number')
        expect(peer).toMatchObject({ kind: 'veth', mac: peerMac, mtu: 1400, up: false, peerIndex: link.index })
        await there.links.set('eth0', { up: true })
        expect(await here.links.get('v0')).toMatchObject({ carrier: true })
        expect(await here.links.list({ master: bridge.index })).toHaveLength(1)
        expect(await here.links.list({ kind: 'bridge' })).toMatchObject([{ name: 'br0' }])
      }))

    test('delete: a veth takes its peer along', () =>
      withKernel(async (here, kernel) => {
        using there = kernel.open(kernel.there)
        await here.links.createVeth({ name: 'v0', peer: { name: 'eth0', netns: kernel.there } })
        await there.links.delete('eth0')
        expect(await here.links.find('v0')).toBeUndefined()
      }))

    test('deleteGroup: takes all links of the group and no other; an empty group is no error', () =>
      withKernel(async (here) => {
        await here.links.createBridge({ name: 'br0', mac })
        for (const name of ['a', 'b']) await here.links.createVeth({ name, group: 9, peer: { name: `${name}-peer` } })
        await here.links.deleteGroup(9)
        await here.links.deleteGroup(9)
        expect((await here.links.list()).map(({ name }) => name)).toEqual(['lo', 'br0'])
      }))

    test('set: changes what is named and leaves the rest', () =>
      withBridge(async (here, bridge) => {
        await here.links.createVeth({ name: 'v0', master: bridge.index, group: 3, peer: { name: 'p0' } })
        // Kernels before 6.2 rename no link that is up: EBUSY.
        await here.links.set('v0', { up: false })
        await here.links.set('v0', { name: 'w0', mac, mtu: 1300, alias: 'new', isolated: true, master: bridge.index })
        expect(await here.links.get('w0')).toMatchObject({
          mac,
          mtu: 1300,
          alias: 'new',
          group: 3,
          port: { isolated: true, learning: true },
        })
        await here.links.set('w0', { master: 0, up: false })
        expect(await here.links.get('w0')).toMatchObject({ master: undefined, port: undefined, up: false, mtu: 1300 })
      }))

    test('createBridge: a name that is taken is EEXIST, and the link that has it is not touched', () =>
      withBridge(async (here, bridge) => {
        const again = here.links.createBridge({ name: 'br0', mac: randomMac(), alias: 'other' })
        await expect(again).rejects.toMatchObject({ code: 'EEXIST', request: 'create bridge br0' })
        expect(await here.links.get('br0')).toMatchObject({ mac: bridge.mac, alias: undefined })
      }))

    test('createVeth: a peer name that is taken is EEXIST, and neither end stays', () =>
      withKernel(async (here, kernel) => {
        await here.links.createVeth({ name: 'v0', peer: { name: 'eth0', netns: kernel.there } })
        const again = here.links.createVeth({ name: 'v1', peer: { name: 'eth0', netns: kernel.there } })
        await expect(again).rejects.toMatchObject({
          code: 'EEXIST',
          request: expect.stringContaining('create veth v1 (peer eth0 in netns '),
        })
        expect(await here.links.find('v1')).toBeUndefined()
      }))

    test.each([
      { what: 'get: no such link', code: 'ENODEV', act: (here: Rtnetlink) => here.links.get('nope') },
      { what: 'get: no such index', code: 'ENODEV', act: (here: Rtnetlink) => here.links.get(999) },
      { what: 'set: no such link', code: 'ENODEV', act: (here: Rtnetlink) => here.links.set('nope', { up: true }) },
      { what: 'delete: no such link', code: 'ENODEV', act: (here: Rtnetlink) => here.links.delete('nope') },
      { what: 'delete: the loopback', code: 'EOPNOTSUPP', act: (here: Rtnetlink) => here.links.delete('lo') },
      {
        what: 'set: an MTU that is too small',
        code: 'EINVAL',
        act: (here: Rtnetlink) => here.links.set('br0', { mtu: 60 }),
      },
      {
        what: 'set: a name that is taken',
        code: 'EEXIST',
        act: async (here: Rtnetlink) => {
          // Kernels before 6.2 rename no link that is up: EBUSY.
          await here.links.set('br0', { up: false })
          await here.links.set('br0', { name: 'lo' })
        },
      },
      {
        what: 'set: a master that does not exist',
        code: 'EINVAL',
        act: (here: Rtnetlink) => here.links.set('lo', { master: 999 }),
      },
      {
        what: 'createVeth: a master that does not exist',
        code: 'EINVAL',
        act: (here: Rtnetlink) => here.links.createVeth({ name: 'v0', master: 999, peer: { name: 'p0' } }),
      },
      {
        what: 'createVeth: a master that is no bridge',
        code: 'EOPNOTSUPP',
        act: (here: Rtnetlink) => here.links.createVeth({ name: 'v0', master: 1, peer: { name: 'p0' } }),
      },
      {
        what: 'createVeth: both ends with one name in one namespace',
        code: 'EEXIST',
        act: (here: Rtnetlink) => here.links.createVeth({ name: 'v0', peer: { name: 'v0' } }),
      },
    ])('$what is $code', ({ code, act }) =>
      withBridge(async (here) => {
        await expect(act(here)).rejects.toMatchObject({ name: 'NetlinkError', code })
        expect(await here.links.find('v0')).toBeUndefined()
      }),
    )
  })

  describe('addresses', () => {
    test('add: the link has the address at once, usable, and its network’s route', () =>
      withBridge(async (here, { index }) => {
        await here.addresses.add({ link: index, address: cidr })
        await here.addresses.add({ link: index, address: parseCidr('fd00:9::1/64') })
        const own = (await here.addresses.list({ link: index })).filter(({ scope }) => scope === 'global')
        expect(own).toMatchObject([
          { address: cidr, label: 'br0', tentative: false, permanent: true },
          { address: parseCidr('fd00:9::1/64'), nodad: true, tentative: false, permanent: true },
        ])
        const routes = await here.routes.list({ table: 254, protocol: 2 })
        const networks = routes.map(({ destination }) => formatCidr(destination))
        expect(networks.filter((network) => !network.startsWith('fe80'))).toEqual(['10.9.0.0/24', 'fd00:9::/64'])
      }))

    test('add: with noPrefixRoute there is no route', () =>
      withBridge(async (here, { index }) => {
        await here.addresses.add({ link: index, address: cidr, noPrefixRoute: true, label: 'br0:x' })
        expect(await here.addresses.list({ link: index, family: 4 })).toMatchObject([
          { noPrefixRoute: true, label: 'br0:x' },
        ])
        expect(await here.routes.list({ family: 4, table: 254 })).toEqual([])
      }))

    test('delete: address and route go', () =>
      withBridge(async (here, { index }) => {
        await here.addresses.add({ link: index, address: cidr })
        await here.addresses.delete(index, cidr)
        expect(await here.addresses.list({ link: index, family: 4 })).toEqual([])
        expect(await here.routes.list({ family: 4, table: 254 })).toEqual([])
      }))

    test('add: twice is EEXIST, unless it may replace', () =>
      withBridge(async (here, { index }) => {
        await here.addresses.add({ link: index, address: cidr })
        const again = here.addresses.add({ link: index, address: cidr })
        await expect(again).rejects.toMatchObject({
          code: 'EEXIST',
          request: `add address 10.9.0.1/24 to link ${index}`,
        })
        await here.addresses.add({ link: index, address: cidr, replace: true })
      }))

    test.each([
      {
        what: 'add: no such link',
        code: 'ENODEV',
        act: (here: Rtnetlink) => here.addresses.add({ link: 99, address: cidr }),
      },
      { what: 'delete: not there', code: 'EADDRNOTAVAIL', act: (here: Rtnetlink) => here.addresses.delete(1, cidr) },
      { what: 'delete: no such link', code: 'ENODEV', act: (here: Rtnetlink) => here.addresses.delete(99, cidr) },
    ])('$what is $code', ({ code, act }) =>
      withKernel(async (here) => {
        await expect(act(here)).rejects.toMatchObject({ name: 'NetlinkError', code })
      }),
    )
  })

  describe('routes', () => {
    const destination = parseCidr('10.20.0.0/16')
    const via = parseIp('10.9.0.7')
    const withNetwork = (work: (here: Rtnetlink, bridge: Link) => Promise<void>): Promise<void> =>
      withBridge(async (here, bridge) => {
        await here.addresses.add({ link: bridge.index, address: cidr })
        await work(here, bridge)
      })

    test('add: the route is listed with the kernel’s choice of link, and as ours', () =>
      withNetwork(async (here, { index }) => {
        await here.routes.add({ destination, via })
        await here.routes.add({ destination, type: 'blackhole', table: 1000, metric: 5 })
        expect(await here.routes.list({ family: 4, protocol: 102, table: 254 })).toMatchObject([
          { destination, via, dev: index, type: 'unicast', scope: 'global', metric: undefined },
        ])
        expect(await here.routes.list({ table: 1000 })).toMatchObject([
          { destination, type: 'blackhole', dev: undefined, metric: 5, table: 1000 },
        ])
      }))

    test('list: a table that does not exist is empty', () =>
      withKernel(async (here) => {
        expect(await here.routes.list({ table: 4242 })).toEqual([])
      }))

    test('replace: takes the place of the route with that destination and metric', () =>
      withNetwork(async (here) => {
        await here.routes.add({ destination, via })
        await here.routes.replace({ destination, via: parseIp('10.9.0.8') })
        expect(await here.routes.list({ protocol: 102 })).toMatchObject([{ via: '10.9.0.8' }])
      }))

    test('delete: removes it; a second time is ESRCH', () =>
      withNetwork(async (here) => {
        await here.routes.add({ destination, via })
        await here.routes.delete({ destination })
        await expect(here.routes.delete({ destination })).rejects.toMatchObject({
          code: 'ESRCH',
          request: 'delete route 10.20.0.0/16',
        })
        expect(await here.routes.list({ protocol: 102 })).toEqual([])
      }))

    test('set: a link that goes down loses its routes, and has its networks again when it comes up', () =>
      withNetwork(async (here) => {
        await here.routes.add({ destination, via })
        await here.links.set('br0', { up: false })
        expect(await here.routes.list({ family: 4, table: 254 })).toEqual([])
        await here.links.set('br0', { up: true })
        expect(await here.routes.list({ family: 4, table: 254 })).toMatchObject([{ protocol: 2, src: '10.9.0.1' }])
      }))

    test.each([
      {
        what: 'a gateway that no link reaches',
        code: 'ENETUNREACH',
        route: { destination, via: parseIp('192.0.2.1') },
      },
      {
        what: 'an IPv6 gateway that no link reaches',
        code: 'EHOSTUNREACH',
        route: { destination: parseCidr('fd77::/64'), via: parseIp('fd66::1') },
      },
      { what: 'a link that does not exist', code: 'ENODEV', route: { destination, dev: 99 } },
      { what: 'a link that is down', code: 'ENETDOWN', route: { destination, dev: 1 } },
      {
        what: 'a destination that is routed already',
        code: 'EEXIST',
        route: { destination: parseCidr('10.9.0.0/24'), via },
      },
    ])('add: $what is $code', ({ code, route }) =>
      withNetwork(async (here) => {
        await expect(here.routes.add(route)).rejects.toMatchObject({ name: 'NetlinkError', code })
      }),
    )
  })

  test('run: tries all requests of one datagram and tells every error', () =>
    withBridge(async (here, { index }) => {
      const failing = here.run([
        addAddress({ link: index, address: cidr }),
        addAddress({ link: 99, address: cidr }),
        addRoute({ destination: parseCidr('10.20.0.0/16'), dev: 99 }),
        addRoute({ destination: parseCidr('10.21.0.0/16'), dev: index }),
      ])
      await expect(failing).rejects.toMatchObject({
        name: 'NetlinkRequestsError',
        errors: [{ code: 'ENODEV' }, { code: 'ENODEV' }],
      })
      expect(await here.routes.list({ protocol: 102 })).toMatchObject([{ destination: parseCidr('10.21.0.0/16') }])
    }))

  test('watch: links, addresses and routes are told as they come and go', () =>
    withKernel(async (here) => {
      const events = new Set<string>()
      const onLost = (error: Error): void => void events.add(error.message)
      here.watchLinks(({ kind, link }) => events.add(`${kind} ${link.name}`), onLost)
      here.watchAddresses(({ kind, address }) => events.add(`${kind} ${formatCidr(address.address)}`), onLost)
      here.watchRoutes(({ kind, route }) => events.add(`${kind} ${formatCidr(route.destination)}`), onLost)
      const { index } = await here.links.createBridge({ name: 'br0', mac })
      await here.links.createVeth({ name: 'v0', master: index, peer: { name: 'p0' } })
      await here.addresses.add({ link: index, address: cidr })
      await here.addresses.delete(index, cidr)
      await here.links.set('v0', { master: 0 })
      const told = [
        'set br0',
        'set v0',
        'set 10.9.0.1/24',
        'set 10.9.0.0/24',
        'deleted 10.9.0.1/24',
        'deleted 10.9.0.0/24',
      ]
      await expect.poll(() => [...events]).toEqual(expect.arrayContaining(told))
      // A port that leaves its bridge is told by the bridge with an RTM_DELLINK of its own family.
      expect([...events]).not.toContain('deleted v0')
      await here.links.delete('v0')
      await expect.poll(() => [...events]).toContain('deleted v0')
    }))

  test('createVeth: a bridge has 1,023 ports, the next is EXFULL', { timeout: patience(60_000) }, () =>
    withBridge(async (here, bridge) => {
      const veth = (i: number) => ({
        name: `v${i}`,
        up: false,
        group: 5,
        master: bridge.index,
        peer: { name: `p${i}` },
      })
      for (let i = 0; i < 1023; i++) await here.links.createVeth(veth(i))
      await expect(here.links.createVeth(veth(1023))).rejects.toMatchObject({ code: 'EXFULL' })
      expect(await here.links.list({ master: bridge.index })).toHaveLength(1023)
      await here.links.deleteGroup(5)
    }),
  )
}
