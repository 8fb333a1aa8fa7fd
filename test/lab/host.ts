import { run, spawnIn, type RunOptions, type RunResult } from '../../src/linux/exec.ts'
import { createAnonymousNetns, type Netns } from '../../src/linux/netns.ts'
import { writeSysctl } from '../../src/linux/sysctl.ts'
import { parseCidr } from '../../src/net/cidr.ts'
import { parseIp, type IpAddress } from '../../src/net/ip-address.ts'
import { randomMac } from '../../src/net/mac-address.ts'
import type { Link } from '../../src/rtnetlink/link.ts'
import { openRtnetlink, type Rtnetlink } from '../../src/rtnetlink/rtnetlink.ts'
import { Agent } from './agent-client.ts'
import type { AgentReply, Failure } from './agent-protocol.ts'

/** An answer: who answered, and the address (and port) of ours that it saw. */
export interface Answer {
  readonly reply: string
  readonly seenSource: IpAddress
  readonly seenSourcePort: number
  /** Our address, as our socket has it. Differs from `seenSource` when it was translated. */
  readonly ownAddress: IpAddress
}

/** What became of an attempt to connect. */
export type Outcome = Answer | Failure

export interface ConnectOptions {
  /** Milliseconds; default 3000. */
  readonly timeout?: number
  readonly sourceAddress?: string
  readonly sourcePort?: number
}

export interface ListenOptions {
  /** Default: every address of both families. */
  readonly address?: string
  /** What it answers with. Default: the host's name. */
  readonly reply?: string
}

/** A listening socket; disposing closes it. Connections that it accepted go on. */
export interface Listener extends AsyncDisposable {
  /** The port that it listens on: chosen by the kernel when 0 was asked for. */
  readonly port: number
}

/** A TCP connection that is kept open; disposing closes it. */
export interface Connection extends Answer, AsyncDisposable {
  /** Sends text and waits for its echo. */
  echo(text: string, options?: { timeout?: number }): Promise<'ok' | Failure>
  /** Closes it with RST, which leaves nothing in TIME_WAIT. */
  abort(): Promise<void>
}

/** A UDP socket that is kept over several questions; disposing closes it. */
export interface UdpClient extends AsyncDisposable {
  /** Sends one datagram and waits for the answer, as {@link Host.connectUdp} does. */
  ask(address: string, port: number, options?: { readonly timeout?: number }): Promise<Outcome>
}

/** Generous: a busy machine must not fail a test. What is expected to time out says a shorter one. */
const defaultTimeout = 3000

/** A machine of the lab: a network namespace, rtnetlink in it, and the lab's agent thread that connects and listens there. */
export class Host implements Disposable {
  readonly name: string
  readonly netns: Netns
  readonly rtnetlink: Rtnetlink
  readonly #agent: Agent

  private constructor(name: string, netns: Netns, rtnetlink: Rtnetlink, agent: Agent) {
    this.name = name
    this.netns = netns
    this.rtnetlink = rtnetlink
    this.#agent = agent
  }

  /** With `forward`, it is a router. */
  static async create(name: string, agent: Agent, options: { readonly forward?: boolean } = {}): Promise<Host> {
    await using scope = new AsyncDisposableStack()
    const netns = scope.use(createAnonymousNetns())
    const rtnetlink = scope.use(openRtnetlink({ netns }))
    // Link-local addresses at once, and no waiting for routers that are not there.
    const sysctls = { 'net.ipv6.conf.default.accept_dad': 0, 'net.ipv6.conf.default.accept_ra': 0 }
    const forwarding = { 'net.ipv4.ip_forward': 1, 'net.ipv6.conf.all.forwarding': 1 }
    for (const [key, value] of Object.entries({ ...sysctls, ...(options.forward === true && forwarding) })) {
      writeSysctl(key, value, { netns })
    }
    await rtnetlink.links.set('lo', { up: true })
    scope.move()
    return new Host(name, netns, rtnetlink, agent)
  }

  /** Adds addresses (`192.0.2.1/24`) to a link. */
  async addAddresses(link: string, addresses: readonly string[]): Promise<void> {
    const { index } = await this.rtnetlink.links.get(link)
    for (const address of addresses) await this.rtnetlink.addresses.add({ link: index, address: parseCidr(address) })
  }

  /** Adds a route: `addRoute('0.0.0.0/0', { via: '192.0.2.254' })`. */
  async addRoute(destination: string, hop: { readonly via?: string; readonly dev?: string }): Promise<void> {
    const dev = hop.dev === undefined ? undefined : (await this.rtnetlink.links.get(hop.dev)).index
    await this.rtnetlink.routes.add({
      destination: parseCidr(destination),
      ...(hop.via !== undefined && { via: parseIp(hop.via) }),
      ...(dev !== undefined && { dev }),
    })
  }

  /** Makes a bridge with addresses. Ports come by `lab.link(node, pod, { aBridge: 'br0', ... })`. */
  async createBridge(name: string, addresses: readonly string[] = []): Promise<Link> {
    const bridge = await this.rtnetlink.links.createBridge({ name, mac: randomMac() })
    await this.addAddresses(name, addresses)
    return bridge
  }

  /** Runs a program in the host's namespace to its end. */
  async exec(argv: readonly string[], options: Omit<RunOptions, 'netns'> = {}): Promise<RunResult> {
    return await run(argv, { timeout: 30_000, ...options, netns: this.netns })
  }

  /** Starts a program in the host's namespace; whoever starts it ends it. */
  spawn(argv: readonly string[], options: Parameters<typeof spawnIn>[2] = {}): ReturnType<typeof spawnIn> {
    return spawnIn(this.netns, argv, options)
  }

  /** Listens; each connection is greeted with this host's name and the peer's address, and then echoed to. */
  async listenTcp(port: number, options: ListenOptions = {}): Promise<Listener> {
    return this.#listener(
      await this.#agent.call(this.netns, { kind: 'listen-tcp', port, reply: this.name, ...options }),
    )
  }

  /** Listens; each datagram is answered with this host's name and the peer's address. */
  async listenUdp(port: number, options: ListenOptions = {}): Promise<Listener> {
    return this.#listener(
      await this.#agent.call(this.netns, { kind: 'listen-udp', port, reply: this.name, ...options }),
    )
  }

  /** Listens where the kernel has SCTP; each message is answered with this host's name and the peer's address. */
  async listenSctp(port: number, options: ListenOptions = {}): Promise<Listener> {
    return this.#listener(
      await this.#agent.call(this.netns, { kind: 'listen-sctp', port, reply: this.name, ...options }),
    )
  }

  /** Makes an SCTP association with a lab listener, sends a message, and waits for the answer. */
  async connectSctp(address: string, port: number, options: ConnectOptions = {}): Promise<Outcome> {
    const call = { kind: 'ask-sctp', address, port, timeout: defaultTimeout, ...options } as const
    return outcomeOf(await this.#agent.call(this.netns, call))
  }

  /** Connects to a lab listener, reads its greeting, and closes. */
  async connectTcp(address: string, port: number, options: ConnectOptions = {}): Promise<Outcome> {
    const call = { kind: 'connect-tcp', keep: false, address, port, timeout: defaultTimeout, ...options } as const
    return outcomeOf(await this.#agent.call(this.netns, call))
  }

  /** Sends one datagram to a lab listener. Silence is a `timeout`; ICMP port unreachable is `refused`. */
  async connectUdp(address: string, port: number, options: ConnectOptions = {}): Promise<Outcome> {
    const call = { kind: 'ask-udp', keep: false, address, port, timeout: defaultTimeout, ...options } as const
    return outcomeOf(await this.#agent.call(this.netns, call))
  }

  /** A UDP socket that is bound to a port, and keeps it. */
  udpClient(source: { readonly sourceAddress?: string; readonly sourcePort: number }): UdpClient {
    const agent = this.#agent
    const { netns } = this
    let handle: number | undefined
    return {
      async ask(address, port, { timeout = defaultTimeout } = {}) {
        const kept = handle === undefined ? source : { handle }
        const result = await agent.call(netns, { kind: 'ask-udp', keep: true, address, port, timeout, ...kept })
        handle = result.handle
        return outcomeOf(result)
      },
      async [Symbol.asyncDispose]() {
        if (handle !== undefined) await agent.call(netns, { kind: 'close', handle })
      },
    }
  }

  /** Connects as {@link connectTcp} does, and keeps the connection. Throws when there is no answer. */
  async openTcp(address: string, port: number, options: ConnectOptions = {}): Promise<Connection> {
    const agent = this.#agent
    const { netns } = this
    const call = { kind: 'connect-tcp', keep: true, address, port, timeout: defaultTimeout, ...options } as const
    const result = await agent.call(netns, call)
    const { handle } = result
    const outcome = outcomeOf(result)
    if (typeof outcome === 'string') {
      throw new Error(`${this.name}: no connection to ${address} port ${port}: ${outcome}`)
    }
    if (handle === undefined) throw new Error(`${this.name}: the agent kept no connection`)
    return {
      ...outcome,
      async echo(text, { timeout = defaultTimeout } = {}) {
        const { failure } = await agent.call(netns, { kind: 'echo', handle, text, timeout })
        return failure ?? 'ok'
      },
      async abort() {
        await agent.call(netns, { kind: 'close', handle, reset: true })
      },
      async [Symbol.asyncDispose]() {
        await agent.call(netns, { kind: 'close', handle })
      },
    }
  }

  [Symbol.dispose](): void {
    this.rtnetlink[Symbol.dispose]()
    this.netns[Symbol.dispose]()
  }

  #listener({ handle, port }: AgentReply): Listener {
    if (handle === undefined || port === undefined) throw new Error(`${this.name}: the agent opened no listener`)
    const agent = this.#agent
    const { netns } = this
    return {
      port,
      async [Symbol.asyncDispose]() {
        await agent.call(netns, { kind: 'close', handle })
      },
    }
  }
}

function outcomeOf({ greeting, failure, ownAddress }: AgentReply): Outcome {
  if (failure) return failure
  if (!greeting) throw new Error('the agent gave neither an answer nor a failure')
  return {
    reply: greeting.reply,
    seenSource: parseIp(greeting.source),
    seenSourcePort: greeting.sourcePort,
    ownAddress: parseIp(ownAddress ?? ''),
  }
}
