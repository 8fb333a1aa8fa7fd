import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { formatCidr } from '../net/cidr.ts'
import type { MacAddress } from '../net/mac-address.ts'
import { arpProbe, decodeArp, showsConflict } from './arp-packet.ts'
import { DhcpMessageError } from './dhcp-message-error.ts'
import { formatLease, isHostAddress, isSameConfiguration, leaseFromAck, parseLease, type DhcpLease } from './lease.ts'
import { LinkLine } from './link-line.ts'
import type { DhcpLink } from './link.ts'
import { LongTimer } from './long-timer.ts'
import { decodeMessage, type DhcpMessage } from './message.ts'
import { messageOf, type DhcpState, type LeasePhase, type Phase } from './phase.ts'
import {
  broadcastMac,
  clientPort,
  encodeClientMessage,
  serverPort,
  type ClientMessage,
  type DhcpIdentity,
} from './requests.ts'
import { renewDelay, retransmitDelay } from './retransmission.ts'
import { decodeUdpPacket } from './udp-packet.ts'

/** `expired`: no server prolonged it; `refused`: a server said no (NAK). */
export type LostReason = 'expired' | 'refused'

/** What the owner of the link hears; these functions must not throw. The address is to be on the link from `bound` until `lost`. */
export interface DhcpEvents {
  /** There is a lease: a new one, or the one kept over a restart. */
  readonly bound: (lease: DhcpLease) => void
  /** The lease that was prolonged says other things than before. */
  readonly changed: (lease: DhcpLease, before: DhcpLease) => void
  /** The address must no longer be used. The client goes on and looks for a new lease. */
  readonly lost: (lease: DhcpLease, reason: LostReason) => void
}

/** Where a lease outlives the process: one text for one client. */
export interface LeaseStorage {
  load(): string | undefined
  save(text: string): void
  clear(): void
}

export interface DhcpClientOptions {
  readonly identity: DhcpIdentity
  readonly link: DhcpLink
  readonly events: DhcpEvents
  /** Default: the lease is forgotten with the process. */
  readonly storage?: LeaseStorage
  readonly clock: Clock
  readonly log: Log
  /** From 0 up to 1. */
  readonly random: () => number
  /** Milliseconds to listen whether somebody else has a new address, before it is used (RFC 5227). 0: not at all. */
  readonly conflictCheckMs: number
}

/** RFC 2131, 3.1: the request is sent four times. */
const requestAttempts = 4
/** A kept lease is used on when nobody answers so often (RFC 2131, 3.2). */
const rebootAttempts = 3
/** RFC 2131, 3.1 (5): wait at least so long after a decline. */
const declinePause = 10_000

/** Takes, prolongs and gives back one lease on one link (RFC 2131). Does nothing until {@link DhcpClient.start}. */
export class DhcpClient implements Disposable {
  readonly #options: DhcpClientOptions
  #phase: Phase | undefined
  readonly #line: LinkLine
  readonly #timer: LongTimer
  #xid = 0
  #attempt = 0
  #exchangeStart = 0
  #secs = 0
  /** The last transmission, by wall time and by the clock that is never set. */
  #asked = { at: 0, monotonic: 0 }
  /** When the lease began, by the clock that is never set. Wall time counts only over a restart. */
  #leaseStart = 0
  #refusals = 0

  constructor(options: DhcpClientOptions) {
    this.#options = options
    this.#timer = new LongTimer(options.clock)
    this.#line = new LinkLine({
      link: options.link,
      log: options.log,
      onIp: (payload, from) => this.#receiveIp(payload, from),
      onArp: (payload) => this.#receiveArp(payload),
    })
  }

  get state(): DhcpState {
    return this.#phase?.kind ?? 'stopped'
  }

  /** The lease that is in use. */
  get lease(): DhcpLease | undefined {
    const phase = this.#phase
    return phase && 'lease' in phase && phase.kind !== 'probing' ? phase.lease : undefined
  }

  /**
   * Begins: with the lease of an earlier process if it has not expired (`bound` is called at once, and the server asked
   * whether it still holds), or else by looking for a server. The link must be up.
   */
  start(): void {
    if (this.#phase) return
    const { storage, events, log, clock } = this.#options
    const text = storage?.load()
    const kept = text === undefined ? undefined : parseLease(text)
    // A clock that was set back makes a lease young again, never younger than new.
    if (kept) this.#leaseStart = clock.monotonic() - Math.max(0, clock.now().getTime() - kept.obtainedAt)
    if (!kept || this.#remaining(kept.expiresAfter) <= 0) return this.#discover()
    log.debug({ address: formatCidr(kept.address) }, 'Kept the DHCP lease of an earlier process')
    this.#phase = { kind: 'rebooting', lease: kept }
    this.#beginExchange()
    events.bound(kept)
  }

  /** Prolongs the lease now, or looks for one now rather than later. */
  renew(): void {
    const lease = this.lease
    if (lease) this.#prolong({ kind: 'renewing', lease })
    else if (this.#phase?.kind === 'init' || this.#phase?.kind === 'selecting') this.#discover()
  }

  /** Gives the lease back and stops. The server does not answer; a release that is lost costs it the lease's time. */
  release(): void {
    const phase = this.#phase
    if (phase && 'lease' in phase) {
      this.#beginXid()
      this.#send({ kind: 'release', lease: phase.lease })
      this.#options.log.debug({ address: formatCidr(phase.lease.address) }, 'Released the DHCP lease')
    }
    this.#options.storage?.clear()
    this[Symbol.dispose]()
  }

  /** Stops and keeps the lease, for the next process. */
  [Symbol.dispose](): void {
    this.#phase = undefined
    this.#timer.cancel()
    this.#line.close()
  }

  #discover(): void {
    this.#phase = { kind: 'selecting' }
    this.#beginExchange()
  }

  #prolong(phase: LeasePhase<'renewing' | 'rebinding'>): void {
    this.#phase = phase
    this.#beginExchange()
  }

  #beginExchange(): void {
    this.#beginXid()
    this.#transmit()
  }

  #beginXid(): void {
    const { random, clock } = this.#options
    this.#xid = Math.floor(random() * 0x1_0000_0000)
    this.#attempt = 0
    this.#secs = 0
    this.#exchangeStart = clock.monotonic()
  }

  /** Says what the state has to say, and waits as long as the state waits for an answer. */
  #transmit(): void {
    const phase = this.#phase
    if (!phase || phase.kind === 'init' || phase.kind === 'bound' || phase.kind === 'probing') return
    const { clock, random, log } = this.#options
    if (phase.kind === 'renewing' && this.#remaining(phase.lease.rebindAfter) <= 0) {
      return this.#prolong({ kind: 'rebinding', lease: phase.lease })
    }
    if (phase.kind === 'rebinding' && this.#remaining(phase.lease.expiresAfter) <= 0) {
      return this.#lose(phase.lease, 'expired')
    }
    this.#asked = { at: clock.now().getTime(), monotonic: clock.monotonic() }
    // A request repeats the time of the discover that it follows (RFC 2131, 4.3.1).
    if (phase.kind !== 'requesting') this.#secs = Math.floor((clock.monotonic() - this.#exchangeStart) / 1000)
    this.#send(messageOf(phase))
    const attempt = this.#attempt++
    const delay = retransmitDelay(attempt, random())
    switch (phase.kind) {
      case 'selecting':
        if (attempt === 2) log.warn({ secs: this.#secs }, 'No DHCP server answers')
        return this.#timer.wait(delay, () => this.#transmit())
      case 'requesting':
        return this.#timer.wait(delay, () => (attempt + 1 < requestAttempts ? this.#transmit() : this.#discover()))
      case 'rebooting': {
        const remaining = this.#remaining(phase.lease.expiresAfter)
        if (remaining <= delay) return this.#timer.wait(remaining, () => this.#lose(phase.lease, 'expired'))
        const again = attempt + 1 < rebootAttempts
        return this.#timer.wait(delay, () => (again ? this.#transmit() : this.#bind(phase.lease)))
      }
      case 'renewing':
        return this.#timer.wait(renewDelay(this.#remaining(phase.lease.rebindAfter)), () => this.#transmit())
      case 'rebinding':
        return this.#timer.wait(renewDelay(this.#remaining(phase.lease.expiresAfter)), () => this.#transmit())
      default:
        return phase satisfies never
    }
  }

  #receiveIp(payload: Buffer, from: MacAddress): void {
    const { identity, log } = this.#options
    let message: DhcpMessage
    try {
      const packet = decodeUdpPacket(payload)
      if (packet.destinationPort !== clientPort || packet.sourcePort !== serverPort) return
      message = decodeMessage(packet.payload)
    } catch (error) {
      if (!(error instanceof DhcpMessageError)) throw error
      log.debug({ from, reason: error.message }, 'Dropped a packet that is no DHCP message')
      return
    }
    if (message.xid === this.#xid && message.chaddr === identity.mac) this.#receive(message, from)
  }

  #receive(message: DhcpMessage, serverMac: MacAddress): void {
    const phase = this.#phase
    if (!phase) return
    const { server } = message.options
    switch (phase.kind) {
      case 'selecting':
        if (message.type !== 'offer' || server === undefined || !isHostAddress(message.yiaddr)) return
        this.#phase = { kind: 'requesting', address: message.yiaddr, server }
        this.#attempt = 0
        return this.#transmit()
      case 'requesting':
        if (server !== phase.server) return
        if (message.type === 'nak') return this.#refused(message, undefined)
        if (message.type === 'ack' && message.yiaddr === phase.address) this.#accept(message, { serverMac })
        return
      case 'rebooting':
      case 'renewing':
      case 'rebinding': {
        const { lease } = phase
        // Of a request that went to one server, others have nothing to say.
        if (phase.kind === 'renewing' && server !== lease.server) return
        if (message.type === 'nak' && server !== undefined) return this.#refused(message, lease)
        if (message.type === 'ack' && message.yiaddr === lease.address.address) {
          this.#accept(message, { serverMac, before: lease })
        }
        return
      }
      case 'init':
      case 'probing':
      case 'bound':
        return
      default:
        return phase satisfies never
    }
  }

  #accept(ack: DhcpMessage, context: { readonly serverMac: MacAddress; readonly before?: DhcpLease }): void {
    const { log, conflictCheckMs } = this.#options
    const { serverMac, before } = context
    let lease: DhcpLease
    try {
      lease = leaseFromAck(ack, { serverMac, askedAt: this.#asked.at })
    } catch (error) {
      if (!(error instanceof DhcpMessageError)) throw error
      log.warn({ server: ack.options.server, reason: error.message }, 'A DHCP server gave a lease that makes no sense')
      return
    }
    this.#refusals = 0
    if (before === undefined && conflictCheckMs > 0) return this.#probe(lease)
    this.#adopt(lease, { start: this.#asked.monotonic, before })
  }

  /** Asks twice whether somebody has the address; who does, answers at once. */
  #probe(lease: DhcpLease): void {
    const { identity, conflictCheckMs } = this.#options
    const start = this.#asked.monotonic
    this.#phase = { kind: 'probing', lease }
    const send = (): void =>
      this.#line.send((link) => link.sendArp(arpProbe(identity.mac, lease.address.address), broadcastMac))
    send()
    this.#timer.wait(conflictCheckMs / 2, () => {
      send()
      this.#timer.wait(conflictCheckMs / 2, () => this.#adopt(lease, { start, before: undefined }))
    })
  }

  #receiveArp(payload: Buffer): void {
    const phase = this.#phase
    if (phase?.kind !== 'probing') return
    const { identity, log } = this.#options
    const { lease } = phase
    let other: MacAddress
    try {
      const packet = decodeArp(payload)
      if (!showsConflict(packet, { address: lease.address.address, mac: identity.mac })) return
      other = packet.senderMac
    } catch (error) {
      if (error instanceof DhcpMessageError) return
      throw error
    }
    const address = lease.address.address
    log.warn({ address, usedBy: other, server: lease.server }, 'Declined the address of a DHCP server: it is in use')
    this.#beginXid()
    this.#send({ kind: 'decline', lease })
    this.#rest(declinePause)
  }

  #adopt(lease: DhcpLease, { start, before }: { start: number; before: DhcpLease | undefined }): void {
    this.#leaseStart = start
    const { events, storage, log } = this.#options
    try {
      storage?.save(formatLease(lease))
    } catch (error) {
      log.error({ err: error }, 'Cannot keep a DHCP lease for after a restart')
    }
    this.#bind(lease)
    const fields = { address: formatCidr(lease.address), server: lease.server, seconds: lease.expiresAfter / 1000 }
    if (before === undefined) {
      log.info(fields, 'Took a DHCP lease')
      events.bound(lease)
    } else if (!isSameConfiguration(before, lease)) {
      log.info(fields, 'The DHCP server changed what comes with the lease')
      events.changed(lease, before)
    } else log.debug(fields, 'Renewed the DHCP lease')
  }

  #bind(lease: DhcpLease): void {
    this.#phase = { kind: 'bound', lease }
    // Nobody has anything to say to a client that is bound: until it asks, it costs nothing.
    this.#line.close()
    this.#timer.wait(this.#remaining(lease.renewAfter), () => this.#prolong({ kind: 'renewing', lease }))
  }

  #refused(nak: DhcpMessage, lease: DhcpLease | undefined): void {
    const { server, errorText } = nak.options
    if (lease) return this.#lose(lease, 'refused', { server, errorText })
    this.#options.log.warn({ server, errorText }, 'A DHCP server refused what it had offered')
    this.#startAgain()
  }

  #lose(lease: DhcpLease, reason: LostReason, fields: object = {}): void {
    const { events, storage, log } = this.#options
    storage?.clear()
    log.warn({ address: formatCidr(lease.address), reason, ...fields }, 'Lost the DHCP lease')
    if (reason === 'refused') this.#startAgain()
    else this.#discover()
    events.lost(lease, reason)
  }

  /** After a refusal: at once, but ever slower when refusals follow each other. */
  #startAgain(): void {
    if (this.#refusals++ === 0) return this.#discover()
    this.#rest(retransmitDelay(this.#refusals - 2, this.#options.random()))
  }

  #rest(ms: number): void {
    this.#phase = { kind: 'init' }
    this.#line.close()
    this.#timer.wait(ms, () => this.#discover())
  }

  /** Milliseconds until `after` milliseconds of the lease are over. */
  #remaining(after: number): number {
    return after - (this.#options.clock.monotonic() - this.#leaseStart)
  }

  #send(message: ClientMessage): void {
    const { identity } = this.#options
    const { packet, to } = encodeClientMessage(message, { identity, xid: this.#xid, secs: this.#secs })
    this.#line.send((link) => link.sendIp(packet, to))
  }
}
