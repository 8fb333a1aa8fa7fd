import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { ObjectKey } from '../model/object-key.ts'
import type { IpAddress, IpFamily } from '../net/ip-address.ts'
import { BufferGuard } from '../relay/buffer-guard.ts'
import { Quota } from '../relay/quota.ts'
import { TcpRelay, type TcpClient, type TcpRelayOptions } from '../relay/tcp-relay.ts'
import type { Choose, Target } from '../relay/target.ts'
import { UdpRelay } from '../relay/udp-relay.ts'
import type { CompiledServices } from './compile-services.ts'
import { EndpointPicker, type View } from './endpoint-picker.ts'
import { frontendKey, type Frontend, type FrontendKey } from './frontends.ts'
import type { ServiceEndpoint } from './select-endpoints.ts'
import { localAddresses } from '../rtnetlink/local-addresses.ts'

/** How much {@link ServiceRelays} may hold at a time. */
export interface RelayLimits {
  /** TCP connections; each has two sockets. */
  readonly connections: number
  /** UDP clients; each has a socket. */
  readonly clients: number
  /** Bytes that all TCP connections hold together while their readers are slow. */
  readonly buffered: number
}

const views: readonly View[] = ['verdict', 'outside']

/**
 * Where TCP relays listen, of addresses that nobody else has. Always the same, so that a restarted daemon answers what conntrack
 * still sends there: for 10 s it remembers a connection that was refused meanwhile, and a client may use the port again.
 */
const tcpPorts: Readonly<Record<View, number>> = { verdict: 29_461, outside: 29_462 }
const noServices = SharedMap.empty<{ readonly frontends: readonly Frontend[] }>()

/**
 * The sockets behind the userspace mode. TCP: one listener per family and view, whatever the number of Services, since
 * conntrack tells where a connection was going. UDP has no such word for a datagram: a socket per frontend and view.
 */
export class ServiceRelays implements Disposable {
  readonly connections: Quota
  readonly clients: Quota
  readonly #buffers: BufferGuard
  readonly #log: Log
  readonly #addresses: Readonly<Record<IpFamily, IpAddress>>
  readonly #picker: EndpointPicker
  readonly #tcp = new Map<string, TcpRelay>()
  readonly #udp = new Map<string, UdpRelay>()
  readonly #live = new Map<FrontendKey, Frontend>()
  /** Services for which some socket could not be had: it is tried again at each sync. */
  readonly #failed = new Set<ObjectKey>()
  #services: CompiledServices | undefined

  constructor(options: {
    readonly addresses: Readonly<Record<IpFamily, IpAddress>>
    readonly limits: RelayLimits
    readonly clock: Clock
    readonly log: Log
  }) {
    this.connections = new Quota(options.limits.connections)
    this.clients = new Quota(options.limits.clients)
    this.#buffers = new BufferGuard(options.limits.buffered)
    this.#log = options.log
    this.#addresses = options.addresses
    this.#picker = new EndpointPicker(options)
  }

  /** Listens for all that `services` need, beside what was served before: nothing that is still redirected may meet a closed port. */
  async open(services: CompiledServices, families: ReadonlySet<IpFamily>): Promise<void> {
    for (const family of families) {
      for (const view of views) {
        await this.#listen(this.#tcp, { name: `${family} ${view}`, family }, async () => {
          return await openTcp({
            listen: { ip: this.#addresses[family], port: tcpPorts[view] },
            choose: this.#chooseTcp(family, view),
            quota: this.connections,
            buffers: this.#buffers,
          })
        })
      }
    }
    const keys = this.#changed(services)
    this.#failed.clear()
    for (const key of keys) {
      for (const frontend of services.services.get(key)?.frontends ?? []) {
        this.#live.set(frontendKey(frontend), frontend)
        if (frontend.protocol !== 'udp' || !families.has(frontend.family)) continue
        if (!(await this.#openUdp(frontend))) this.#failed.add(key)
      }
    }
  }

  /** Once nothing else is redirected here: closes what `services` do not need, and lets UDP clients of endpoints that went choose anew. */
  settle(services: CompiledServices): void {
    const keys = this.#changed(services)
    const kept = new Set<FrontendKey>()
    for (const key of keys) for (const f of services.services.get(key)?.frontends ?? []) kept.add(frontendKey(f))
    for (const key of keys) {
      for (const frontend of this.#services?.services.get(key)?.frontends ?? []) {
        const name = frontendKey(frontend)
        if (kept.has(name)) continue
        this.#live.delete(name)
        for (const view of views) this.#closeUdp(udpName(frontend, view))
      }
    }
    for (const name of kept) {
      const frontend = this.#live.get(name)
      if (frontend?.protocol === 'udp') this.#settleUdp(frontend)
    }
    this.#services = services
  }

  /** Where connections to a frontend have to be redirected to; undefined: nobody could listen. */
  listenerOf(frontend: Frontend, view: View): ServiceEndpoint | undefined {
    const relay =
      frontend.protocol === 'udp' ? this.#udp.get(udpName(frontend, view)) : this.#tcp.get(`${frontend.family} ${view}`)
    return relay && { ip: this.#addresses[frontend.family], port: relay.port }
  }

  /** Listens no more; TCP connections go on until they end. */
  close(): void {
    for (const relay of this.#tcp.values()) relay.close({ abort: false })
    this.#tcp.clear()
    for (const name of this.#udp.keys()) this.#closeUdp(name)
    this.#live.clear()
    this.#services = undefined
  }

  [Symbol.dispose](): void {
    for (const relay of this.#tcp.values()) relay[Symbol.dispose]()
    this.close()
  }

  #changed(services: CompiledServices): ReadonlySet<ObjectKey> {
    const keys = SharedMap.changedKeys(this.#services?.services ?? noServices, services.services)
    // Sockets that could not be had are tried again.
    for (const key of this.#failed) keys.add(key)
    return keys
  }

  async #openUdp(frontend: Frontend): Promise<boolean> {
    let all = true
    for (const view of views) {
      if (frontend[view]?.kind !== 'balance') continue
      const name = udpName(frontend, view)
      const { family } = frontend
      const listens = await this.#listen(this.#udp, { name, family }, async () => {
        return await UdpRelay.open({
          listen: { ip: this.#addresses[family], port: 0 },
          choose: this.#chooseUdp(frontendKey(frontend), view),
          quota: this.clients,
        })
      })
      all &&= listens
    }
    return all
  }

  async #listen<R>(
    relays: Map<string, R>,
    { name, family }: { name: string; family: IpFamily },
    open: () => Promise<R>,
  ): Promise<boolean> {
    if (relays.has(name)) return true
    try {
      relays.set(name, await open())
      return true
    } catch (error) {
      this.#log.warn({ err: error, mode: 'userspace', frontend: name, family }, `cannot listen for ${name}`)
      return false
    }
  }

  #closeUdp(name: string): void {
    this.#udp.get(name)?.[Symbol.dispose]()
    this.#udp.delete(name)
  }

  #settleUdp(frontend: Frontend): void {
    for (const view of views) {
      const verdict = frontend[view]
      const name = udpName(frontend, view)
      if (verdict?.kind !== 'balance') this.#closeUdp(name)
      else {
        const there = new Set(verdict.slots.map((slot) => `${slot.ip} ${slot.port}`))
        this.#udp.get(name)?.keepOnly(({ ip, port }) => there.has(`${ip} ${port}`))
      }
    }
  }

  #chooseTcp(family: IpFamily, view: View): Choose<TcpClient> {
    return (client, failed) => {
      const wanted = client.originalDestination()
      const frontend =
        wanted &&
        (this.#live.get(`${wanted.ip} ${wanted.port}/TCP`) ?? this.#live.get(`node-port-${family} ${wanted.port}/TCP`))
      return frontend && this.#pick(frontend, { view, client: client.ip, failed })
    }
  }

  #chooseUdp(name: FrontendKey, view: View): Choose {
    return (client, failed) => {
      const frontend = this.#live.get(name)
      return frontend && this.#pick(frontend, { view, client: client.ip, failed })
    }
  }

  #pick(
    frontend: Frontend,
    options: { view: View; client: IpAddress; failed: readonly Target[] },
  ): ServiceEndpoint | undefined {
    const endpoint = this.#picker.pick(frontend, options)
    // What this process sends there would be redirected here again, without end.
    return endpoint && this.#isFrontend(endpoint, frontend) ? undefined : endpoint
  }

  #isFrontend({ ip, port }: ServiceEndpoint, { family, protocol }: Frontend): boolean {
    const what = `${port}/${protocol.toUpperCase()}`
    return (
      this.#live.has(`${ip} ${what}`) || (this.#live.has(`node-port-${family} ${what}`) && localAddresses().has(ip))
    )
  }
}

function udpName(frontend: Frontend, view: View): string {
  return `${frontendKey(frontend)} ${view}`
}

/** Listens at a port that is free if somebody has that one at all addresses. */
async function openTcp(options: TcpRelayOptions): Promise<TcpRelay> {
  try {
    return await TcpRelay.open(options)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    return await TcpRelay.open({ ...options, listen: { ...options.listen, port: 0 } })
  }
}
