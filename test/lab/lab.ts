import { Agent } from './agent-client.ts'
import { Host } from './host.ts'

/** The two ends of a cable. */
export interface LinkOptions {
  /** Addresses of a's end, `192.0.2.1/24`. */
  readonly a?: string | readonly string[]
  readonly b?: string | readonly string[]
  /** Names of the ends. Default: the other host's name, cut to 15 characters. */
  readonly aName?: string
  readonly bName?: string
  /** A bridge of a's that its end becomes a port of. */
  readonly aBridge?: string
  readonly mtu?: number
}

/**
 * Hosts and cables out of network namespaces. The namespaces have no names and are connected to nothing outside, so labs
 * do not collide, and one that dies leaves nothing behind: the kernel clears up with the process.
 */
export class Lab implements AsyncDisposable {
  readonly #hosts = new Map<string, Host>()
  readonly #shared: boolean
  #agent: Promise<Agent> | undefined

  constructor(agent?: Agent) {
    this.#shared = agent !== undefined
    this.#agent = agent && Promise.resolve(agent)
  }

  /** Adds a machine; with `forward`, a router. */
  async host(name: string, options: { readonly forward?: boolean } = {}): Promise<Host> {
    if (this.#hosts.has(name)) throw new Error(`the lab has a host ${name} already`)
    this.#agent ??= Agent.start()
    const host = await Host.create(name, await this.#agent, options)
    this.#hosts.set(name, host)
    return host
  }

  /** Connects two hosts by a veth pair, both ends up and addressed. */
  async link(a: Host, b: Host, options: LinkOptions = {}): Promise<{ aName: string; bName: string }> {
    const aName = options.aName ?? b.name.slice(0, 15)
    const bName = options.bName ?? a.name.slice(0, 15)
    const master = options.aBridge === undefined ? undefined : (await a.rtnetlink.links.get(options.aBridge)).index
    await a.rtnetlink.links.createVeth({
      name: aName,
      ...(master !== undefined && { master }),
      ...(options.mtu !== undefined && { mtu: options.mtu }),
      peer: { name: bName, netns: b.netns },
    })
    await b.rtnetlink.links.set(bName, { up: true })
    await a.addAddresses(aName, [options.a ?? []].flat())
    await b.addAddresses(bName, [options.b ?? []].flat())
    return { aName, bName }
  }

  /** Ends all hosts and, with them, whatever is in their namespaces. */
  async [Symbol.asyncDispose](): Promise<void> {
    const agent = await this.#agent
    if (!this.#shared) await agent?.[Symbol.asyncDispose]()
    for (const host of this.#hosts.values()) host[Symbol.dispose]()
    this.#hosts.clear()
  }
}

/** `await using lab = createLab()`. Needs root. Labs that share an agent thread start faster; whoever made it ends it. */
export function createLab(agent?: Agent): Lab {
  return new Lab(agent)
}
