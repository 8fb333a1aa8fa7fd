import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { ObjectKey } from '../model/object-key.ts'
import { cidrContains } from '../net/cidr.ts'
import { ipFamilyOf } from '../net/ip-address.ts'
import { BufferGuard } from '../relay/buffer-guard.ts'
import { Quota } from '../relay/quota.ts'
import { TcpRelay } from '../relay/tcp-relay.ts'
import type { Target } from '../relay/target.ts'
import { UdpRelay } from '../relay/udp-relay.ts'
import type { CompiledServices } from './compile-services.ts'
import type { Evidence } from './dataplane.ts'
import { loopbackAddresses, type Packet } from './decide.ts'
import { EndpointPicker } from './endpoint-picker.ts'
import { frontendKey, type Frontend, type FrontendKey, type ServiceFrontends } from './frontends.ts'
import type { RelayLimits } from './service-relays.ts'

/** A node port that is served: what it was last compiled to, and its socket once it is there. */
interface LoopbackPort {
  frontend: Frontend
  relay: TcpRelay | UdpRelay | undefined
  /** What was said in the log already of why there is no socket. */
  refused?: string
}

/** A modest number: these are for people and scripts on the node. */
const defaultLimits: RelayLimits = { connections: 1000, clients: 1000, buffered: 64 << 20 }

/**
 * Node ports at 127.0.0.1 and ::1, in every mode: this process listens there and carries TCP and UDP to endpoints, chosen
 * as for the node's own processes. The kernel could translate such packets for IPv4 with `route_localnet`, which opens
 * the node's loopback services to its neighbours (CVE-2020-8558), and not at all for IPv6.
 */
export class LoopbackNodePorts implements Disposable {
  readonly #log: Log
  readonly #picker: EndpointPicker
  readonly #connections: Quota
  readonly #clients: Quota
  readonly #buffers: BufferGuard
  readonly #ports = new Map<FrontendKey, LoopbackPort>()
  #services: CompiledServices | undefined
  #work: Promise<void> = Promise.resolve()

  constructor(options: { readonly clock: Clock; readonly log: Log; readonly limits?: RelayLimits }) {
    const { connections, clients, buffered } = options.limits ?? defaultLimits
    this.#log = options.log
    this.#picker = new EndpointPicker(options)
    this.#connections = new Quota(connections)
    this.#clients = new Quota(clients)
    this.#buffers = new BufferGuard(buffered)
  }

  /**
   * Listens where `services` and their settings say, and no longer elsewhere; connections that were made go on. A port that
   * a program of the node has is logged once, left to it, and tried again at the next call.
   */
  update(services: CompiledServices): Promise<void> {
    const mine = this.#work.then(() => this.#update(services))
    this.#work = mine.catch(() => {})
    return mine
  }

  /** What `fairlead explain` says of a node port at a loopback address: no rule of the kernel is concerned. */
  explain({ destination, port, protocol }: Packet): Evidence {
    const where = `${ipFamilyOf(destination) === 6 ? `[${destination}]` : destination}:${port}/${protocol}`
    const known = this.#ports.get(`node-port-${ipFamilyOf(destination)} ${port}/${protocol.toUpperCase()}`)
    if (known?.relay) return { lines: [`the daemon listens at ${where}, and carries what comes`], differences: [] }
    const lines = [`the daemon does not listen at ${where}`]
    return { lines, differences: known ? [`${where} cannot be had: ${known.refused ?? 'not yet tried'}`] : [] }
  }

  [Symbol.dispose](): void {
    for (const { relay } of this.#ports.values()) relay?.[Symbol.dispose]()
    this.#ports.clear()
    this.#services = undefined
  }

  async #update(services: CompiledServices): Promise<void> {
    const before = this.#services
    this.#services = services
    for (const key of changedKeys(before, services)) {
      const wanted = wantedPorts(services.services.get(key), services)
      for (const name of wantedPorts(before?.services.get(key), before).keys()) {
        // Another Service may have the port by now.
        if (!wanted.has(name) && !this.#isTakenOver(name, key)) this.#close(name)
      }
      for (const [name, frontend] of wanted) this.#serve(name, frontend)
    }
    for (const [name, port] of this.#ports) if (!port.relay) await this.#listen(name, port)
  }

  #serve(name: FrontendKey, frontend: Frontend): void {
    const known = this.#ports.get(name)
    if (!known) {
      this.#ports.set(name, { frontend, relay: undefined })
      return
    }
    known.frontend = frontend
    if (!(known.relay instanceof UdpRelay) || frontend.verdict.kind !== 'balance') return
    const { slots } = frontend.verdict
    known.relay.keepOnly(({ ip, port }) => slots.some((slot) => slot.ip === ip && slot.port === port))
  }

  #isTakenOver(name: FrontendKey, from: ObjectKey): boolean {
    const claim = this.#services?.claims.get(name)
    const owner = typeof claim === 'string' ? claim : claim?.[0]
    return (
      owner !== undefined &&
      owner !== from &&
      wantedPorts(this.#services?.services.get(owner), this.#services).has(name)
    )
  }

  #close(name: FrontendKey): void {
    const relay = this.#ports.get(name)?.relay
    if (relay instanceof TcpRelay) relay.close({ abort: false })
    else relay?.[Symbol.dispose]()
    this.#ports.delete(name)
  }

  async #listen(name: FrontendKey, port: LoopbackPort): Promise<void> {
    const { family, protocol, port: number } = port.frontend
    const listen = { ip: loopbackAddresses[family], port: number }
    const choose = (client: Target, failed: readonly Target[]): Target | undefined =>
      this.#picker.pick(port.frontend, { view: 'verdict', client: client.ip, failed })
    try {
      port.relay =
        protocol === 'tcp'
          ? await TcpRelay.open({ listen, choose, quota: this.#connections, buffers: this.#buffers })
          : await UdpRelay.open({ listen, choose, quota: this.#clients })
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException
      if (port.refused === code) return
      port.refused = code
      const where = family === 4 ? '127.0.0.1' : '[::1]'
      this.#log.warn({ err: error, port: number, protocol }, `cannot serve a node port at ${where}:${number}: ${code}`)
      return
    }
    // The service went while it was opened.
    if (this.#ports.get(name) !== port) port.relay[Symbol.dispose]()
  }
}

function changedKeys(before: CompiledServices | undefined, after: CompiledServices): ReadonlySet<ObjectKey> {
  const none = SharedMap.empty<ServiceFrontends>()
  const families = (of: CompiledServices | undefined): string => of?.settings.loopbackNodePorts?.join() ?? ''
  if (families(before) === families(after)) {
    return families(after) === '' ? new Set() : SharedMap.changedKeys(before?.services ?? none, after.services)
  }
  return new Set([...(before?.services ?? none).keys(), ...after.services.keys()])
}

/** The node ports of a Service that need a socket. Without an endpoint none does: the kernel refuses, as elsewhere. */
function wantedPorts(
  service: ServiceFrontends | undefined,
  services: CompiledServices | undefined,
): ReadonlyMap<FrontendKey, Frontend> {
  const families = services?.settings.loopbackNodePorts ?? []
  const wanted = (service?.frontends ?? []).filter(
    ({ kind, family, protocol, verdict, sourceRanges }) =>
      kind === 'node-port' &&
      protocol !== 'sctp' &&
      verdict.kind === 'balance' &&
      families.includes(family) &&
      (sourceRanges?.some((range) => cidrContains(range, loopbackAddresses[family])) ?? true),
  )
  return new Map(wanted.map((frontend) => [frontendKey(frontend), frontend]))
}
