import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram'
import { connect, createServer } from 'node:net'
import type { Log } from '../base/log.ts'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { PublishingEndpoint } from './firewall-plan.ts'
import type { Network } from './network.ts'
import type { PublishedProtocol } from './publication.ts'

/** A port of ::1 and where it leads. */
export interface Relay {
  readonly protocol: PublishedProtocol
  readonly port: Port
  readonly to: { readonly ip: IpAddress; readonly port: Port }
}

/** How long a UDP client may be silent before it is forgotten, in ms: as nf_conntrack_udp_timeout_stream. */
const udpTimeout = 120_000
/** UDP clients of one port at a time. */
const maxUdpClients = 1000
/** Ports of ::1 at a time: each is a socket of ours, and a daemon without free descriptors would do nothing at all. */
const maxRelays = 1000

/** The relays that published ports need: those of all addresses, and of ::1. Pure. */
export function planRelays(
  networks: readonly Pick<Network, 'name' | 'internal' | 'gatewayModes'>[],
  endpoints: Iterable<PublishingEndpoint>,
): ReadonlyMap<string, Relay> {
  const byName = new Map(networks.map((network) => [network.name, network]))
  const relays = new Map<string, Relay>()
  for (const { network: name, ips, published = [] } of endpoints) {
    const network = byName.get(name)
    const ip = ips.find((ip) => ipFamilyOf(ip) === 6)
    if (!network || network.internal || network.gatewayModes[6] !== 'nat' || ip === undefined) continue
    for (const { hostIp, hostPort, port, protocol } of published) {
      if (hostIp !== undefined && hostIp !== '::' && hostIp !== '::1') continue
      relays.set(`${protocol} ${hostPort} ${ip} ${port}`, { protocol, port: hostPort, to: { ip, port } })
    }
  }
  return relays
}

/**
 * Carries what programs of the node send to [::1] to pods, in this process: the kernel cannot translate it, for it takes no
 * answer to ::1 from a link. It works in the namespace of this process, and while it runs.
 */
export class LoopbackRelays implements Disposable {
  readonly #log: Log
  readonly #open = new Map<string, { close(): void }>()
  /** Ports beyond {@link maxRelays}. */
  #left = 0

  constructor(log: Log) {
    this.#log = log
  }

  /** Opens and closes relays, until there are these, or 1,000 of them. A port that cannot be had is logged. */
  set(wanted: ReadonlyMap<string, Relay>): void {
    for (const [key, relay] of this.#open) {
      if (wanted.has(key)) continue
      relay.close()
      this.#open.delete(key)
    }
    let left = 0
    for (const [key, relay] of wanted) {
      if (this.#open.has(key)) continue
      if (this.#open.size >= maxRelays) {
        left++
        continue
      }
      const failed = (error: Error): void => {
        const { protocol, port } = relay
        this.#log.warn({ err: error, protocol, port }, `Cannot relay ${protocol} port ${port} of ::1`)
      }
      this.#open.set(key, relay.protocol === 'tcp' ? relayTcp(relay, failed) : relayUdp(relay, failed))
    }
    if (left > 0 && this.#left === 0) {
      const reason = `${maxRelays} published ports are served at ::1, and no more`
      this.#log.warn({ left }, `${reason}: use 127.0.0.1 or an address of this host for the others`)
    }
    this.#left = left
  }

  [Symbol.dispose](): void {
    this.set(new Map())
  }
}

function relayTcp({ port, to }: Relay, failed: (error: Error) => void): { close(): void } {
  const open = new Set<{ destroy(): void }>()
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const pod = connect({ host: to.ip, port: to.port, allowHalfOpen: true })
    for (const [one, other] of [
      [client, pod],
      [pod, client],
    ] as const) {
      open.add(one)
      // Whatever ends one side ends the other: who asked sees a closed connection, as from a pod that has gone.
      one.on('error', () => other.resetAndDestroy())
      one.on('close', () => open.delete(one))
      one.pipe(other)
    }
  })
  server.on('error', failed)
  server.listen({ host: '::1', port, ipv6Only: true })
  return {
    close() {
      server.close()
      for (const socket of open) socket.destroy()
    },
  }
}

function relayUdp({ port, to }: Relay, failed: (error: Error) => void): { close(): void } {
  const server = createSocket({ type: 'udp6', ipv6Only: true })
  const clients = new Map<string, { readonly socket: UdpSocket; timer: NodeJS.Timeout }>()
  const forget = (key: string): void => {
    const client = clients.get(key)
    if (!client || !clients.delete(key)) return
    clearTimeout(client.timer)
    client.socket.close()
  }
  const clientOf = (from: RemoteInfo): UdpSocket => {
    const key = `${from.address} ${from.port}`
    const known = clients.get(key)
    if (known) {
      known.timer.refresh()
      return known.socket
    }
    const [oldest] = clients.keys()
    if (oldest !== undefined && clients.size >= maxUdpClients) forget(oldest)
    const socket = createSocket('udp6')
    clients.set(key, { socket, timer: setTimeout(() => forget(key), udpTimeout).unref() })
    socket.on('message', (answer) => server.send(answer, from.port, from.address))
    // ICMP says that nobody listens: silence for the client, as UDP has it.
    socket.on('error', () => forget(key))
    return socket
  }
  server.on('message', (bytes, from) => clientOf(from).send(bytes, to.port, to.ip))
  server.on('error', failed)
  server.bind({ address: '::1', port })
  return {
    close() {
      for (const key of clients.keys()) forget(key)
      try {
        server.close()
      } catch {
        // It never opened, or closed at its error.
      }
    },
  }
}
