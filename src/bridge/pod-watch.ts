import { BoundedRunner } from '../base/bounded-runner.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { MacAddress } from '../net/mac-address.ts'
import type { NearbyEvent } from '../rtnetlink/rtnetlink.ts'
import { fairleadProtocol } from '../rtnetlink/routes.ts'
import type { BridgeKernel } from './kernel.ts'
import type { EndpointPlan } from './plan.ts'
import { reconcileEndpoint } from './reconcile.ts'

/** What a {@link PodWatch} needs. */
export interface PodWatchOptions {
  readonly kernel: BridgeKernel
  /** The endpoints as they should be, now. */
  readonly endpoints: () => readonly EndpointPlan[]
  /** Whether a port is being made or removed by us. */
  readonly isBusy: (port: string) => boolean
  /** Whether a link in a pod may have this MTU. */
  readonly isUsualMtu: (mtu: number) => boolean
  /** Called after each repair. */
  readonly onRepair: () => void
  readonly log: Log
  readonly clock: Clock
}

/** How long to wait for what belongs together, ms: a link that is being made is down before it is up. */
const settleMs = 100

/**
 * Repairs what programs in pods take away from their own links: addresses, routes, routing rules, the link's being up, its MTU. One
 * socket on the host hears it (NETLINK_LISTEN_ALL_NSID); addresses tell whose it was. Where only a gateway is known (a deleted
 * route), all pods of that gateway are looked at.
 */
export class PodWatch implements AsyncDisposable {
  readonly #options: PodWatchOptions
  readonly #runner: BoundedRunner
  readonly #watch: Disposable
  #addresses = new Set<IpAddress>()
  #gateways = new Set<IpAddress>()
  #macs = new Map<MacAddress, { readonly up: boolean; readonly mtu: number }>()
  #everything = false

  constructor(options: PodWatchOptions) {
    const { kernel, log, clock } = options
    this.#options = options
    this.#runner = new BoundedRunner({
      run: async (_reason, signal) => {
        await new Promise<void>((resolve) => {
          const timer = clock.after(settleMs, resolve)
          signal.addEventListener('abort', () => {
            timer.cancel()
            resolve()
          })
        })
        if (!signal.aborted) await this.#look()
      },
      clock,
      onError: (error, { failures, retryInMs }) =>
        log.error({ err: error, failures, retryInMs }, 'Cannot repair the inside of pods, trying again'),
    })
    this.#watch = kernel.rtnetlink.watchNearby(
      (event) => this.#note(event),
      (error) => {
        log.warn({ err: error }, 'Netlink notifications were lost, looking into every pod')
        this.#everything = true
        this.#runner.request()
      },
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watch[Symbol.dispose]()
    this.#runner.stop()
    await this.#runner.settled()
  }

  #note(event: NearbyEvent): void {
    switch (event.what) {
      case 'link': {
        const { kind, mac, up, mtu } = event.link
        if (kind !== 'veth' || mac === undefined) return
        // A link that is as it should be is of interest only if it was not, a moment ago.
        if (up && this.#options.isUsualMtu(mtu) && !this.#macs.has(mac)) return
        this.#macs.set(mac, { up, mtu })
        break
      }
      case 'address gone':
        this.#addresses.add(event.address.address.address)
        break
      case 'rule gone':
        if (event.rule.protocol !== fairleadProtocol || !event.rule.source) return
        this.#addresses.add(event.rule.source.address)
        break
      case 'route gone': {
        const { route, asked } = event
        // The kernel's own removals come with those of the link or its addresses.
        if (route.type !== 'unicast' || (route.family === 6 && !asked)) return
        this.#gateways.add(route.via ?? route.destination.address)
        break
      }
      default:
        event satisfies never
    }
    this.#runner.request()
  }

  async #look(): Promise<void> {
    const { kernel, endpoints, isBusy, onRepair, log } = this.#options
    const [addresses, gateways, macs, everything] = [this.#addresses, this.#gateways, this.#macs, this.#everything]
    this.#addresses = new Set()
    this.#gateways = new Set()
    this.#macs = new Map()
    this.#everything = false
    const isConcerned = (endpoint: EndpointPlan): boolean => {
      const link = macs.get(endpoint.mac)
      return (
        everything ||
        endpoint.addresses.some(({ address }) => addresses.has(address)) ||
        endpoint.routes.some(({ destination, via }) => gateways.has(via ?? destination.address)) ||
        (link !== undefined && (!link.up || link.mtu !== endpoint.mtu))
      )
    }
    const errors: Error[] = []
    for (const endpoint of endpoints().filter(isConcerned)) {
      if (isBusy(endpoint.port)) continue
      try {
        await reconcileEndpoint(endpoint, {
          kernel,
          async attempt(what, work) {
            if (isBusy(endpoint.port)) return
            await work()
            onRepair()
            log.warn({ action: what }, `Repaired what another program changed: ${what}`)
          },
        })
      } catch (error) {
        // Its namespace may have gone with it meanwhile.
        const isWanted = endpoints().some(({ port }) => port === endpoint.port)
        if (!isWanted || isBusy(endpoint.port)) continue
        for (const { address } of endpoint.addresses) this.#addresses.add(address)
        errors.push(error as Error)
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, errors.map((error) => error.message).join('; '))
  }
}
