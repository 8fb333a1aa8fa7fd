import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Quota } from './quota.ts'
import type { Choose, Target } from './target.ts'

export interface UdpRelayOptions {
  /** Port 0: any that is free. */
  readonly listen: { readonly ip: IpAddress; readonly port: number }
  readonly choose: Choose
  /** Clients at a time, of all relays that share it. For one more, this relay's longest silent one is forgotten. */
  readonly quota: Quota
  /** A client whose target never answered is forgotten after this, in ms. @default 30 s, as nf_conntrack_udp_timeout */
  readonly unansweredMs?: number
  /** A client that was silent, and its target too, is forgotten after this, in ms. @default 120 s, as nf_conntrack_udp_timeout_stream */
  readonly idleMs?: number
}

/** A client and the socket that speaks to its target. */
interface Session {
  readonly target: Target
  readonly socket: Socket
  /** Datagrams that came before the socket was connected (a tick later); undefined from then on. */
  waiting: Buffer[] | undefined
  answered: boolean
  timer: NodeJS.Timeout
}

/** Datagrams of a new client that are kept while its socket is made. */
const maxWaiting = 16
/** Bytes that may wait in this process for a socket to take them; datagrams beyond are lost, as UDP allows. */
const maxSendQueue = 1 << 20

/** Carries datagrams to targets, and the answers back: each client keeps its target while it is remembered. */
export class UdpRelay implements Disposable {
  readonly #options: UdpRelayOptions
  readonly #server: Socket
  /** By the client's address and port, the longest silent one first. */
  readonly #sessions = new Map<string, Session>()

  private constructor(options: UdpRelayOptions) {
    this.#options = options
    this.#server = createSocket(socketOptions(options.listen.ip))
    this.#server.on('message', (bytes, from) => this.#receive(bytes, from))
  }

  /** Binds. Rejects with the error of bind(2). */
  static async open(options: UdpRelayOptions): Promise<UdpRelay> {
    const relay = new UdpRelay(options)
    relay.#server.bind({ address: options.listen.ip, port: options.listen.port, exclusive: true })
    await once(relay.#server, 'listening')
    // A client that cannot be answered (its host is gone) is no concern of the others.
    relay.#server.on('error', () => {})
    return relay
  }

  get port(): Port {
    return this.#server.address().port as Port
  }

  /** Clients that are remembered. */
  get clients(): number {
    return this.#sessions.size
  }

  /** Forgets the clients of targets that `isKept` denies: their next datagram finds a new one. */
  keepOnly(isKept: (target: Target) => boolean): void {
    for (const [key, session] of this.#sessions) if (!isKept(session.target)) this.#forget(key)
  }

  [Symbol.dispose](): void {
    for (const key of this.#sessions.keys()) this.#forget(key)
    this.#server.close()
  }

  #receive(bytes: Buffer, from: RemoteInfo): void {
    const key = `${from.address} ${from.port}`
    const session = this.#sessions.get(key) ?? this.#open(key, from)
    if (!session) return
    this.#touch(key, session)
    if (!session.waiting) send(session.socket, bytes)
    else if (session.waiting.length < maxWaiting) session.waiting.push(bytes)
  }

  #open(key: string, from: RemoteInfo): Session | undefined {
    const target = this.#options.choose({ ip: from.address as IpAddress, port: from.port as Port }, [])
    if (!target || !this.#takeQuota()) return undefined
    const socket = createSocket(socketOptions(target.ip))
    const timer = setTimeout(() => this.#forget(key), this.#options.unansweredMs ?? 30_000).unref()
    const session: Session = { target, socket, waiting: [], answered: false, timer }
    this.#sessions.set(key, session)
    socket.on('message', (answer) => {
      session.answered = true
      this.#touch(key, session)
      if (this.#server.getSendQueueSize() < maxSendQueue) this.#server.send(answer, from.port, from.address)
    })
    // ICMP said that nobody listens. The client hears silence; its next datagram finds a target anew.
    socket.on('error', () => {
      if (this.#sessions.get(key) === session) this.#forget(key)
    })
    socket.on('connect', () => {
      const waiting = session.waiting ?? []
      session.waiting = undefined
      for (const bytes of waiting) send(socket, bytes)
    })
    socket.connect(target.port, target.ip)
    return session
  }

  #takeQuota(): boolean {
    const { quota } = this.#options
    if (quota.take()) return true
    const [longestSilent] = this.#sessions.keys()
    if (longestSilent === undefined) return false
    this.#forget(longestSilent)
    return quota.take()
  }

  /** Notes a sign of life. */
  #touch(key: string, session: Session): void {
    this.#sessions.delete(key)
    this.#sessions.set(key, session)
    if (!session.answered) return void session.timer.refresh()
    clearTimeout(session.timer)
    session.timer = setTimeout(() => this.#forget(key), this.#options.idleMs ?? 120_000).unref()
  }

  #forget(key: string): void {
    const session = this.#sessions.get(key)
    if (!session || !this.#sessions.delete(key)) return
    clearTimeout(session.timer)
    session.socket.close()
    this.#options.quota.give()
  }
}

function socketOptions(ip: IpAddress): { type: 'udp4' | 'udp6'; ipv6Only?: boolean } {
  return ipFamilyOf(ip) === 4 ? { type: 'udp4' } : { type: 'udp6', ipv6Only: true }
}

function send(socket: Socket, bytes: Buffer): void {
  if (socket.getSendQueueSize() < maxSendQueue) socket.send(bytes)
}
