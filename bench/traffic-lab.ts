import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { createAnonymousNetns, type Netns } from '../src/linux/netns.ts'
import { spawnIn } from '../src/linux/exec.ts'
import { writeSysctl } from '../src/linux/sysctl.ts'
import { parseCidr } from '../src/net/cidr.ts'
import { parseIp } from '../src/net/ip-address.ts'
import { openRtnetlink, type Rtnetlink } from '../src/rtnetlink/rtnetlink.ts'
import { hasProgram } from './modes.ts'
import { scriptBeside } from './script-beside.ts'
import type { TrafficReply, TrafficTask } from './traffic-task.ts'

/**
 * The address plan. Between client and node 172.16.N.0/30 (and clients of 172.18.N.0/24), between node and backends 172.17.N.0/30. Backends have every address of
 * {@link backendNetworks} (AnyIP): endpoints of Services (10.128.0.0/9), those that take their place (10.64.0.0/11), and
 * something that is no Service at all (192.0.2.0/24).
 */
export const backendNetworks = ['10.128.0.0/9', '10.64.0.0/11', '192.0.2.0/24'] as const
/** Clients count as pods, so that connections to cluster IPs keep their source address. */
export const clientNetwork = '172.16.0.0/12'
/** An address of the backends that no Service has. */
export const unservedAddress = '192.0.2.1'
/** The port of all endpoints. */
export const endpointPort = 8080

/** Nodes that the address plan has room for. */
export const mostNodes = 256

/** A machine between client and backends, for one mode to run on. */
export interface TrafficNode extends Disposable {
  readonly client: Netns
  readonly node: Netns
  /** Where the node reaches what runs beside the backends. */
  readonly apiAddress: string
  /** A /24 of which the client has every address: clients that are told apart by their address. */
  readonly sources: string
}

/**
 * One backend namespace with one server process, one client process, and any number of nodes between, each with a client namespace of
 * its own: all modes stand side by side and are measured in turns. The namespaces have no names, and are gone with the processes.
 */
export class TrafficLab implements AsyncDisposable {
  readonly backend: Netns
  readonly #backendLinks: Rtnetlink
  readonly #server: ChildProcess
  readonly #client: ChildProcess
  readonly #lines: AsyncIterator<string>
  /** Rejects when one of the two processes ends. */
  readonly #ended: Promise<never>
  readonly #listening = new Set<string>()
  readonly #stack: AsyncDisposableStack
  #nodes = 0

  private constructor(parts: {
    backend: Netns
    links: Rtnetlink
    server: ChildProcess
    client: ChildProcess
    stack: AsyncDisposableStack
  }) {
    this.backend = parts.backend
    this.#backendLinks = parts.links
    this.#server = parts.server
    this.#client = parts.client
    this.#stack = parts.stack
    if (!parts.server.stdout) throw new Error('the server process has no output')
    this.#lines = createInterface(parts.server.stdout)[Symbol.asyncIterator]()
    this.#ended = Promise.race([
      once(parts.server, 'exit').then(() => Promise.reject(new Error('the server of the benchmark ended'))),
      once(parts.client, 'exit').then(() => Promise.reject(new Error('the client of the benchmark ended'))),
    ])
    // Nobody may be waiting when they are ended.
    this.#ended.catch(() => {})
    // That it cannot be written to a process that is gone: that it is gone is said above.
    parts.client.on('error', () => {})
    parts.server.stdin?.on('error', () => {})
  }

  /** Starts client and server, each on a CPU of its own where taskset(1) is there, and listens on the port of all endpoints. */
  static async open(path: string): Promise<TrafficLab> {
    await using stack = new AsyncDisposableStack()
    const backend = stack.use(createAnonymousNetns())
    const links = stack.use(openRtnetlink({ netns: backend }))
    await links.links.set('lo', { up: true })
    const { index: dev } = await links.links.get('lo')
    for (const network of backendNetworks) {
      await links.routes.add({ destination: parseCidr(network), type: 'local', table: 255, dev })
    }
    const isPinned = hasProgram('taskset', path)
    const pin = (cpu: number): string[] => (isPinned ? ['taskset', '-c', String(cpu)] : [])
    const server = spawnIn(backend, [...pin(1), process.execPath, scriptBeside(import.meta.url, 'traffic-server')], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    stack.defer(() => end(server))
    const client = fork(scriptBeside(import.meta.url, 'traffic-client'), [], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      ...(isPinned && { execPath: 'taskset', execArgv: ['-c', '0', process.execPath] }),
    })
    stack.defer(() => end(client))
    const lab = new TrafficLab({ backend, links, server, client, stack: stack.move() })
    try {
      await lab.listen('tcp', '0.0.0.0', endpointPort)
    } catch (error) {
      await lab[Symbol.asyncDispose]()
      throw error
    }
    return lab
  }

  /** Lets the endpoints answer. UDP needs an address: answers would leave from another one. Asking again is no error. */
  async listen(protocol: 'tcp' | 'udp', ip: string, port: number): Promise<void> {
    const line = `${protocol} ${ip} ${port}`
    if (this.#listening.has(line)) return
    this.#listening.add(line)
    this.#server.stdin?.write(`${line}\n`)
    const answer = await Promise.race([this.#lines.next(), this.#ended])
    if (answer.value !== 'ok') throw new Error(`the server of the benchmark cannot listen: ${line}`)
  }

  /** Adds a node, with routes from client to backends and back through it. */
  async addNode(): Promise<TrafficNode> {
    const number = this.#nodes++
    if (number >= mostNodes) throw new Error(`the address plan has room for ${mostNodes} nodes`)
    using stack = new DisposableStack()
    const client = stack.use(createAnonymousNetns())
    const node = stack.use(createAnonymousNetns())
    using clientLinks = openRtnetlink({ netns: client })
    using nodeLinks = openRtnetlink({ netns: node })
    writeSysctl('net.ipv4.ip_forward', 1, { netns: node })
    // Every connection of a run may have a port of its own.
    writeSysctl('net.ipv4.ip_local_port_range', '1024 65535', { netns: client })
    for (const links of [clientLinks, nodeLinks]) await links.links.set('lo', { up: true })
    await cable(nodeLinks, { name: 'clients', address: `172.16.${number}.1/30` }, clientLinks, {
      name: 'node',
      address: `172.16.${number}.2/30`,
      netns: client,
    })
    await cable(nodeLinks, { name: 'backends', address: `172.17.${number}.1/30` }, this.#backendLinks, {
      name: `node${number}`,
      address: `172.17.${number}.2/30`,
      netns: this.backend,
    })
    const sources = `172.18.${number}.0`
    const all = parseCidr(`${sources}/24`)
    const { index: dev } = await clientLinks.links.get('lo')
    await clientLinks.routes.add({ destination: all, type: 'local', table: 255, dev })
    await nodeLinks.routes.add({ destination: all, via: parseIp(`172.16.${number}.2`) })
    await this.#backendLinks.routes.add({ destination: all, via: parseIp(`172.17.${number}.1`) })
    await clientLinks.routes.add({ destination: parseCidr('0.0.0.0/0'), via: parseIp(`172.16.${number}.1`) })
    for (const network of backendNetworks) {
      await nodeLinks.routes.add({ destination: parseCidr(network), via: parseIp(`172.17.${number}.2`) })
    }
    // Without any route, packets of the node itself to cluster IPs end before a rule sees them.
    await nodeLinks.routes.add({ destination: parseCidr('0.0.0.0/0'), via: parseIp(`172.17.${number}.2`) })
    await this.#backendLinks.routes.add({
      destination: parseCidr(`172.16.${number}.0/30`),
      via: parseIp(`172.17.${number}.1`),
    })
    const owned = stack.move()
    return { client, node, sources, apiAddress: `172.17.${number}.2`, [Symbol.dispose]: () => owned.dispose() }
  }

  /** Lets the client do something, and waits for what came of it. */
  ask(task: TrafficTask): Promise<TrafficReply> {
    const reply = this.#ask(task)
    // Ctrl-C at a terminal ends client and server, too, and whoever asked may be waiting for something else just then.
    reply.catch(() => {})
    return reply
  }

  async #ask(task: TrafficTask): Promise<TrafficReply> {
    using stopListening = new DisposableStack()
    const reply = new Promise<TrafficReply>((resolve) => {
      this.#client.once('message', resolve)
      stopListening.defer(() => this.#client.off('message', resolve))
    })
    this.#client.send(task)
    return await Promise.race([reply, this.#ended])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync()
  }
}

/** Makes a veth pair between two namespaces, both ends up and addressed. */
async function cable(
  a: Rtnetlink,
  aEnd: { readonly name: string; readonly address: string },
  b: Rtnetlink,
  bEnd: { readonly name: string; readonly address: string; readonly netns: Netns },
): Promise<void> {
  await a.links.createVeth({ name: aEnd.name, peer: { name: bEnd.name, netns: bEnd.netns } })
  await b.links.set(bEnd.name, { up: true })
  for (const [links, { name, address }] of [
    [a, aEnd],
    [b, bEnd],
  ] as const) {
    await links.addresses.add({ link: (await links.links.get(name)).index, address: parseCidr(address) })
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}
