import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { createLab } from '../../test/lab/lab.ts'
import type { Host } from '../../test/lab/host.ts'
import { silentLog } from '../base/log.ts'
import { PacketSocket } from '../linux/packet-socket.ts'
import { parseCidr } from '../net/cidr.ts'
import { ipToBytes, parseIp, type IpAddress } from '../net/ip-address.ts'
import { macToBytes, type MacAddress } from '../net/mac-address.ts'
import { openNftables } from '../nftables/open-client.ts'
import { openBridgeKernel } from './kernel.ts'
import type { Lease } from './leases.ts'
import { openBridgeNetworks } from './open-bridge-networks.ts'

const stack = new AsyncDisposableStack()
afterAll(() => stack.disposeAsync())

const subnets = ['10.77.0.0/24', 'fd00:77::/64'].map(parseCidr)
const gateway = parseIp('10.77.0.1')
const gateway6 = parseIp('fd00:77::1')
const etherTypes = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd, vlan: 0x8100 } as const
/** A VLAN tag after the first one: which type the frame goes on with, behind VLAN 0. */
const vlan0 = (type: number): Buffer => Buffer.from([0, 0, type >> 8, type & 0xff])

let node: Host
let attacker: { host: Host; lease: Lease }
let victim: { host: Host; lease: Lease }
let gatewayMac: MacAddress

beforeAll(async () => {
  const lab = stack.use(createLab())
  node = await lab.host('node')
  const stateDir = mkdtempSync(join(tmpdir(), 'fairlead-guard-'))
  stack.defer(() => rmSync(stateDir, { recursive: true }))
  const networks = stack.use(
    await openBridgeNetworks({
      stateDir,
      networks: [{ name: 'default', bridge: 'fl0', subnets, masquerade: false }],
      machineId: 'test',
      bootId: 'boot',
      kernel: stack.use(openBridgeKernel({ netns: node.netns })),
      nft: stack.use(openNftables({ netns: node.netns })),
      log: silentLog,
      keepLease: () => true,
    }),
  )
  gatewayMac = networks.networks[0]!.mac
  const pod = async (name: string): Promise<typeof victim> => {
    const host = await lab.host(name)
    const lease = await networks.attach({ owner: `pod default/${name}`, network: 'default', netns: host.netns.path })
    return { host, lease }
  }
  attacker = await pod('attacker')
  victim = await pod('victim')
})

/** Sends as the pod may not, past the kernel's own idea of addresses. */
function send(protocol: number, payload: Buffer, to: MacAddress): void {
  using socket = PacketSocket.open({ link: 'eth0', protocol, netns: attacker.host.netns })
  socket.send(payload, to)
}

/** An ARP request for the gateway's address, whose sender everybody who gets it remembers (RFC 826). */
function arpRequest(sender: string): Buffer {
  return Buffer.concat([
    Buffer.from([0, 1, 8, 0, 6, 4, 0, 1]),
    macToBytes(attacker.lease.mac),
    ipToBytes(parseIp(sender)),
    Buffer.alloc(6),
    ipToBytes(gateway),
  ])
}

/** RFC 4861, 4.4: router, solicited, override, and the attacker's MAC as the target's. */
function advertisement(target: IpAddress, to: IpAddress): Buffer {
  const from = attacker.lease.ips.find((ip) => ip.includes(':'))!
  const body = Buffer.concat([
    Buffer.from([136, 0, 0, 0, 0xe0, 0, 0, 0]),
    ipToBytes(target),
    Buffer.from([2, 1]),
    macToBytes(attacker.lease.mac),
  ])
  const pseudo = Buffer.concat([ipToBytes(from), ipToBytes(to), Buffer.from([0, 0, 0, body.length, 0, 0, 0, 58]), body])
  let sum = 0
  for (let at = 0; at < pseudo.length; at += 2) sum += pseudo.readUInt16BE(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
  body.writeUInt16BE(~sum & 0xffff, 2)
  const header = Buffer.from([0x60, 0, 0, 0, 0, body.length, 58, 255])
  return Buffer.concat([header, ipToBytes(from), ipToBytes(to), body])
}

/** A frame takes microseconds from one veth to the other. */
async function passed(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 50))
}

async function macOf(host: Host, address: IpAddress): Promise<MacAddress | undefined> {
  const neighbours = await host.rtnetlink.neighbours.list()
  return neighbours.find((neighbour) => neighbour.address === address)?.mac
}

describe('compileSourceGuard() in the kernel', () => {
  test('an ARP request of a pod in its own name is heard', async () => {
    const [own = gateway] = attacker.lease.ips
    send(etherTypes.arp, arpRequest(own), gatewayMac)
    await vi.waitFor(async () => expect(await macOf(node, own)).toBe(attacker.lease.mac))
  })

  test.each([
    { frame: 'plain', sender: '10.77.0.97', protocol: etherTypes.arp, tags: [] },
    { frame: 'with a VLAN tag 0', sender: '10.77.0.98', protocol: etherTypes.vlan, tags: [etherTypes.arp] },
    {
      frame: 'with two VLAN tags 0, which the kernel takes off behind the rules',
      sender: '10.77.0.99',
      protocol: etherTypes.vlan,
      tags: [etherTypes.vlan, etherTypes.arp],
    },
  ])("an ARP request in another's name is not heard: $frame", async ({ sender, protocol, tags }) => {
    send(protocol, Buffer.concat([...tags.map(vlan0), arpRequest(sender)]), gatewayMac)
    await passed()
    expect(await macOf(node, parseIp(sender))).toBeUndefined()
  })

  test("a neighbour advertisement for another's address changes nothing, neither at the node nor at a neighbour", async () => {
    const ip = victim.lease.ips.find((address) => address.includes(':'))!
    // Both know each other from now on: an advertisement for an unknown address is passed over (RFC 4861, 7.2.5).
    await using _listener = await victim.host.listenTcp(80)
    expect(await node.connectTcp(ip, 80)).toMatchObject({ reply: victim.host.name })
    expect(await macOf(victim.host, gateway6)).toBe(gatewayMac)
    send(etherTypes.ipv6, advertisement(ip, gateway6), gatewayMac)
    send(etherTypes.ipv6, advertisement(gateway6, ip), victim.lease.mac)
    await passed()
    expect(await macOf(node, ip)).toBe(victim.lease.mac)
    expect(await macOf(victim.host, gateway6)).toBe(gatewayMac)
  })
})
