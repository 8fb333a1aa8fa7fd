import { describe, expect, test } from 'vitest'
import type { FirewallRules } from '../../src/bridge/firewall-rules.ts'
import type { Lease } from '../../src/bridge/leases.ts'
import { networkDefaults, type Network } from '../../src/bridge/network.ts'
import { parsePublication } from '../../src/bridge/publication.ts'
import { parseCidr } from '../../src/net/cidr.ts'
import { parseIp } from '../../src/net/ip-address.ts'
import { parseMac } from '../../src/net/mac-address.ts'

/** Networks and leases that rules are made of; a test changes them. */
export interface FirewallWish {
  networks: readonly Network[]
  leases: readonly Lease[]
}

/** A kernel, fake or real, in which nobody has any rules yet. */
export interface FirewallUnderTest extends AsyncDisposable {
  /** As the daemon opens them at its start; disposed with the whole. */
  open(wish: FirewallWish): FirewallRules
  /** All rules and elements of ours that the kernel has, as text. */
  shown(): Promise<string>
  /** How often the kernel was written to. */
  writes(): number
  /** Somebody else empties all of it. */
  flush(): Promise<void>
  /** Lets time pass until rules can have been repaired. */
  settle(): Promise<void>
}

const network = (name: string, index: number, more: Partial<Network> = {}): Network => ({
  ...networkDefaults,
  name,
  bridge: `fl${index}`,
  mac: parseMac(`02:00:00:00:01:0${index}`),
  subnets: [`10.${index}.0.0/16`, `fd0${index}::/64`].map((text) => ({
    cidr: parseCidr(text),
    gateway: parseIp(text.startsWith('fd') ? `fd0${index}::1` : `10.${index}.0.1`),
  })),
  mtu: 1500,
  ...more,
})

const networks = [
  network('nat', 1),
  network('quiet', 2, { icc: false }),
  network('inside', 3, { internal: true }),
  network('routed', 4, { gatewayModes: { 4: 'routed', 6: 'routed' } }),
  network('own-source', 5, { masquerade: ['192.0.2.7', '2001:db8::7'].map(parseIp) }),
]

const lease = (of: Network, index: number, ports: readonly [string | undefined, number][] = []): Lease => ({
  owner: `pod default/${of.name}-${index}`,
  network: of.name,
  ips: of.subnets.map(({ gateway }) => parseIp(gateway.replace(/1$/, `${index}`))),
  mac: parseMac(`02:00:00:00:02:${of.bridge.slice(2)}${index}`),
  netns: '/run/netns/none',
  bootId: 'boot',
  ...(ports.length > 0 && {
    published: ports.map(([hostIp, hostPort]) =>
      parsePublication({ ...(hostIp !== undefined && { hostIp }), hostPort, port: 80, protocol: 'tcp' }),
    ),
  }),
})

const leases = networks.map((of, index) => lease(of, 2, [[undefined, 8000 + index]]))

/** Lines sorted: nft lists chains and elements in the order in which they were made. */
export function inAnyOrder(text: string): string {
  const lines = text.split('\n').map((line) => line.trim())
  return lines.toSorted((a, b) => (a < b ? -1 : 1)).join('\n')
}

/** What both ways of {@link FirewallRules} do, on fakes and on a kernel. */
export function testFirewallRules(open: () => Promise<FirewallUnderTest>): void {
  describe('FirewallRules', () => {
    test('sync() writes all, and a second daemon finds nothing to do', async () => {
      await using under = await open()
      await under.open({ networks, leases }).sync()
      const written = await under.shown()
      const writes = under.writes()
      expect(writes).toBeGreaterThan(0)
      for (const word of ['10.1.0.2', 'fd01::2', '8000', 'fl3']) expect(written).toContain(word)
      await using again = under.open({ networks, leases })
      await again.sync()
      await again.update()
      expect(under.writes()).toBe(writes)
      expect(await under.shown()).toBe(written)
      expect(again.repairs).toBe(0)
    })

    test('update() writes what has changed, and takes it out again', async () => {
      await using under = await open()
      const wish: FirewallWish = { networks, leases }
      const rules = under.open(wish)
      await rules.sync()
      const before = await under.shown()
      const [nat = network('nat', 1)] = networks
      wish.leases = [
        ...leases,
        lease(nat, 3, [
          ['127.0.0.1', 9001],
          [undefined, 9002],
        ]),
      ]
      await Promise.all([rules.update(), rules.update()])
      const after = await under.shown()
      for (const word of ['9001', '9002', '10.1.0.3', 'fd01::3']) expect(after).toContain(word)
      wish.leases = leases
      await rules.update()
      expect(await under.shown()).toBe(before)
    })

    test('update() follows networks that come and go', async () => {
      await using under = await open()
      const wish: FirewallWish = { networks: networks.slice(0, 2), leases: leases.slice(0, 2) }
      const rules = under.open(wish)
      await rules.sync()
      const few = await under.shown()
      expect(few).not.toContain('fl4')
      Object.assign(wish, { networks, leases })
      await rules.update()
      expect(await under.shown()).toContain('fl4')
      Object.assign(wish, { networks: networks.slice(0, 2), leases: leases.slice(0, 2) })
      await rules.update()
      expect(await under.shown()).toBe(few)
    })

    test('follow() puts back what somebody else removes, and counts it', async () => {
      await using under = await open()
      const rules = under.open({ networks, leases })
      await rules.sync()
      const written = await under.shown()
      rules.follow()
      await under.flush()
      await under.settle()
      expect(await under.shown()).toBe(written)
      expect(rules.repairs).toBeGreaterThan(0)
    })
  })
}
