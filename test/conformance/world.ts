import { isDeepStrictEqual } from 'node:util'
import { hasSctp } from '../../src/linux/sctp-socket.ts'
import { writeSysctl } from '../../src/linux/sysctl.ts'
import { addressCidr, formatCidr, parseCidr } from '../../src/net/cidr.ts'
import { ipFamilyOf, parseIp, type IpAddress, type IpFamily } from '../../src/net/ip-address.ts'
import type { Agent } from '../lab/agent-client.ts'
import type { Host, Listener, ListenOptions, UdpClient } from '../lab/host.ts'
import { createLab, type Lab } from '../lab/lab.ts'
import { endpointName, type FlowCase } from './flow-case.ts'
import { isUplink, type Listening, type Place, type Placement } from './placement.ts'
import { podLinks } from './proxy-config.ts'

/** The node's end of every pod's cable: packets that it masquerades to a pod get this address. */
const podGateways = { 4: parseIp('169.254.1.1'), 6: parseIp('fd00:169:254::1') } as const
const routers = { 4: parseIp('192.168.0.1'), 6: parseIp('fd00:192:168::1') } as const
const defaults = { 4: '0.0.0.0/0', 6: '::/0' } as const
/** What everybody reaches through the node. */
const serviceNetworks = [
  '172.30.0.0/16', '192.168.99.0/24', '1.2.3.4/32', '5.6.7.8/32', '9.10.11.12/32',
  'fd00:172:30::/108', '2001:db8:99::/64',
] // prettier-ignore
/** Networks for benchmarks (RFC 2544, RFC 5180), of which the runner takes addresses for itself: silent where nobody serves them. */
const silentNetworks = ['198.18.0.0/15', '2001:2::/48']

/** Nothing but rules may be in a packet's way: no source checks, no redirects, no limits to the rate of refusals. */
const sysctls = {
  'net.ipv4.conf.all.rp_filter': 0,
  'net.ipv4.conf.default.rp_filter': 0,
  'net.ipv4.conf.all.send_redirects': 0,
  'net.ipv4.conf.default.send_redirects': 0,
  'net.ipv4.conf.all.accept_redirects': 0,
  'net.ipv4.conf.default.accept_redirects': 0,
  'net.ipv6.conf.all.accept_redirects': 0,
  'net.ipv6.conf.default.accept_redirects': 0,
  'net.ipv4.icmp_ratelimit': 0,
  'net.ipv6.icmp.ratelimit': 0,
} as const

interface Placed {
  readonly place: Place
  readonly host: Host
  readonly undo: () => Promise<void>
}

/** The network of a case, out of network namespaces: the node, its pods, other nodes with theirs, and clients beyond a router. */
export class World implements AsyncDisposable {
  /** The node that the proxy runs on. */
  readonly node: Host
  readonly #case: FlowCase
  readonly #lab: Lab
  readonly #outside: Host
  readonly #others = new Map<string, Host>()
  readonly #placed = new Map<IpAddress, Placed>()
  readonly #listeners = new Map<string, Listener>()
  readonly #udpClients = new Map<string, UdpClient>()
  #links = 0

  private constructor(flowCase: FlowCase, hosts: { lab: Lab; node: Host; outside: Host }) {
    this.#case = flowCase
    this.#lab = hosts.lab
    this.node = hosts.node
    this.#outside = hosts.outside
  }

  /** Makes the node and what is beyond its uplink. */
  static async create(flowCase: FlowCase, agent?: Agent): Promise<World> {
    await using scope = new AsyncDisposableStack()
    const lab = scope.use(createLab(agent))
    const outside = await createHost(lab, 'outside', { forward: true })
    const node = await createHost(lab, 'node', { forward: true })
    await outside.createBridge('uplink', [`${routers[4]}/24`, `${routers[6]}/64`])
    const world = new World(flowCase, { lab, node, outside })
    await world.#join(node, 'node', flowCase.node.addresses)
    const { bridge } = podLinks(flowCase)
    if (bridge !== undefined)
      await node.createBridge(
        bridge,
        Object.values(podGateways).map((ip) => formatCidr(addressCidr(ip))),
      )
    for (const family of world.#families()) {
      await node.addRoute(defaults[family], { via: routers[family] })
      const via = world.#nodeAddress(family)
      for (const network of serviceNetworks) {
        if (ipFamilyOf(parseCidr(network).address) === family && via !== undefined)
          await outside.addRoute(network, { via })
      }
    }
    for (const network of silentNetworks) {
      await outside.rtnetlink.routes.add({ destination: parseCidr(network), type: 'blackhole' })
    }
    scope.move()
    return world
  }

  /** Brings every address to its place, and opens the listeners. What was there before and is not named stays. */
  async place(placement: Placement): Promise<void> {
    for (const [name, addresses] of placement.nodes) {
      if (this.#others.has(name)) continue
      const host = await createHost(this.#lab, `node ${name}`)
      await this.#join(host, `node${this.#links++}`, addresses)
      for (const family of this.#families()) await host.addRoute(defaults[family], { via: this.#nodeAddress(family)! })
      this.#others.set(name, host)
    }
    for (const [address, place] of placement.places) {
      const before = this.#placed.get(address)
      if (before && isDeepStrictEqual(before.place, place)) continue
      await before?.undo()
      for (const [key, listener] of this.#listeners) {
        if (before === undefined || !key.split(' ')[1]?.startsWith(endpointName(address, 0).slice(0, -1))) continue
        await listener[Symbol.asyncDispose]()
        this.#listeners.delete(key)
      }
      this.#placed.set(address, { place, ...(await this.#placeOne(address, place, placement)) })
    }
    for (const listening of placement.listeners) await this.#listen(listening)
  }

  /** Who connects for `from`, and the address that it binds to. */
  client(from: IpAddress | 'node'): { readonly host: Host; readonly sourceAddress?: IpAddress } {
    if (from === 'node') return { host: this.node }
    const placed = this.#placed.get(from)
    if (!placed) throw new Error(`nobody has the client address ${from}`)
    return { host: placed.host, sourceAddress: from }
  }

  /** The socket that a client keeps through all steps. */
  udpClient(from: IpAddress | 'node', sourcePort: number): UdpClient {
    const key = `${from} ${sourcePort}`
    let client = this.#udpClients.get(key)
    if (!client) {
      const { host, ...source } = this.client(from)
      this.#udpClients.set(key, (client = host.udpClient({ ...source, sourcePort })))
    }
    return client
  }

  /** A listener of the node itself, answering `host`; with its address on loopback if the node does not have it. */
  async listenOnNode({ protocol, address, port }: Listening): Promise<AsyncDisposable> {
    await using stack = new AsyncDisposableStack()
    stack.use(await this.ensureNodeAddress(address))
    const options = { address, reply: 'host' }
    stack.use(await listen(this.node, { protocol, port }, options))
    return stack.move()
  }

  /** Adds an address to the node's loopback until it is disposed, unless the node has it. */
  async ensureNodeAddress(address: IpAddress): Promise<AsyncDisposable> {
    const { addresses, links } = this.node.rtnetlink
    const present = await addresses.list()
    const stack = new AsyncDisposableStack()
    if (address.startsWith('127.') || present.some((each) => each.address.address === address)) return stack
    const { index } = await links.get('lo')
    await addresses.add({ link: index, address: addressCidr(address) })
    stack.defer(() => addresses.delete(index, addressCidr(address)))
    return stack
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The agent thread may be others' too.
    const sockets = [...this.#listeners.values(), ...this.#udpClients.values()]
    await Promise.all(sockets.map((socket) => socket[Symbol.asyncDispose]()))
    await this.#lab[Symbol.asyncDispose]()
  }

  /** The families that the node has. */
  #families(): IpFamily[] {
    return ([4, 6] as const).filter((family) => this.#nodeAddress(family) !== undefined)
  }

  #nodeAddress(family: IpFamily): IpAddress | undefined {
    return this.#case.node.addresses.find((address) => ipFamilyOf(address) === family)
  }

  /** Connects a node to the uplink. */
  async #join(host: Host, port: string, addresses: readonly IpAddress[]): Promise<void> {
    const own = addresses.map((address) => {
      if (!isUplink(address)) return formatCidr(addressCidr(address))
      return `${address}/${ipFamilyOf(address) === 4 ? 24 : 64}`
    })
    await this.#lab.link(this.#outside, host, { aBridge: 'uplink', aName: port, bName: 'eth0', b: own })
  }

  async #placeOne(address: IpAddress, place: Place, placement: Placement): Promise<Omit<Placed, 'place'>> {
    switch (place.kind) {
      case 'this-node':
        return { host: this.node, undo: async () => {} }
      case 'other-node':
        return { host: this.#other(place.node), undo: async () => {} }
      case 'outside':
        return { host: this.#outside, undo: await addLoopback(this.#outside, address) }
      case 'remote-pod': {
        const host = this.#other(place.node)
        const via = placement.nodes.get(place.node)?.find((ip) => ipFamilyOf(ip) === ipFamilyOf(address))
        const undo = await addLoopback(host, address)
        if (via === undefined || !this.#families().includes(ipFamilyOf(address))) return { host, undo }
        await this.node.addRoute(formatCidr(addressCidr(address)), { via })
        const removeRoute = (): Promise<void> =>
          this.node.rtnetlink.routes.delete({ destination: addressCidr(address), via })
        return { host, undo: async () => void (await Promise.all([undo(), removeRoute()])) }
      }
      case 'local-pod':
        return await this.#addPod(address)
      default:
        return place satisfies never
    }
  }

  #other(name: string): Host {
    const host = this.#others.get(name)
    if (!host) throw new Error(`there is no node ${name}`)
    return host
  }

  /** A pod with one address, which the node routes to it: all that it sends passes the node. */
  async #addPod(address: IpAddress): Promise<Omit<Placed, 'place'>> {
    const { bridge, prefix = 'pod' } = podLinks(this.#case)
    const number = this.#links++
    const pod = await createHost(this.#lab, `pod ${number} ${address}`)
    const own = formatCidr(addressCidr(address))
    const gateways = bridge === undefined ? Object.values(podGateways).map((ip) => formatCidr(addressCidr(ip))) : []
    // A link's name has 15 characters at most.
    const name = `${prefix.slice(0, 11)}${number}`
    await this.#lab.link(this.node, pod, {
      aName: bridge === undefined ? name : `port${number}`,
      a: gateways,
      bName: 'eth0',
      b: own,
      ...(bridge !== undefined && { aBridge: bridge }),
    })
    // With br_netfilter, what a rule sends back to where it came from is bridged, as kubelet's hairpin mode provides for.
    if (bridge !== undefined) await this.node.rtnetlink.links.set(`port${number}`, { hairpin: true })
    const family = ipFamilyOf(address)
    await pod.addRoute(formatCidr(addressCidr(podGateways[family])), { dev: 'eth0' })
    await pod.addRoute(defaults[family], { via: podGateways[family] })
    const dev = bridge ?? name
    await this.node.addRoute(own, { dev })
    const undo = async (): Promise<void> => {
      await pod.rtnetlink.links.delete('eth0')
      if (bridge !== undefined) {
        const { index } = await this.node.rtnetlink.links.get(bridge)
        await this.node.rtnetlink.routes.delete({ destination: addressCidr(address), dev: index })
      }
    }
    return { host: pod, undo }
  }

  async #listen({ address, protocol, port }: Listening): Promise<void> {
    const reply = endpointName(address, port)
    const key = `${protocol} ${reply}`
    const host = this.#placed.get(address)?.host
    if (!host || this.#listeners.has(key) || (protocol === 'sctp' && !hasSctp())) return
    this.#listeners.set(key, await listen(host, { protocol, port }, { address, reply }))
  }
}

function listen(
  host: Host,
  { protocol, port }: Pick<Listening, 'protocol' | 'port'>,
  options: ListenOptions,
): Promise<Listener> {
  switch (protocol) {
    case 'tcp':
      return host.listenTcp(port, options)
    case 'udp':
      return host.listenUdp(port, options)
    case 'sctp':
      return host.listenSctp(port, options)
    default:
      return protocol satisfies never
  }
}

async function createHost(lab: Lab, name: string, options: { readonly forward?: boolean } = {}): Promise<Host> {
  const host = await lab.host(name, options)
  for (const [key, value] of Object.entries(sysctls)) writeSysctl(key, value, { netns: host.netns })
  return host
}

/** Gives a host one more address, and returns what takes it away. */
async function addLoopback(host: Host, address: IpAddress): Promise<() => Promise<void>> {
  const { addresses, links } = host.rtnetlink
  const { index } = await links.get('lo')
  await addresses.add({ link: index, address: addressCidr(address) })
  return () => addresses.delete(index, addressCidr(address))
}
