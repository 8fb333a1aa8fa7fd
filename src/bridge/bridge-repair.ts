import { BoundedRunner } from '../base/bounded-runner.ts'
import { systemClock, type Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { BridgePlans } from './bridge-plans.ts'
import type { BusyPorts } from './busy-ports.ts'
import { uplinkOf } from './host-facts.ts'
import { watchHost } from './host-watch.ts'
import type { BridgeKernel } from './kernel.ts'
import type { LeaseJournal } from './leases.ts'
import type { LinkDeletions } from './link-deletions.ts'
import type { NetworkPools } from './network-pools.ts'
import { followedMtu } from './network.ts'
import { planPort } from './plan.ts'
import { PodWatch } from './pod-watch.ts'
import { reconcileHost } from './reconcile.ts'

/** What {@link BridgeRepair} needs: the parts are those of the networks that it repairs. */
export interface BridgeRepairOptions {
  readonly kernel: BridgeKernel
  readonly pools: NetworkPools
  readonly plans: BridgePlans
  readonly journal: LeaseJournal
  readonly busy: BusyPorts
  readonly deletions: LinkDeletions
  readonly log: Log
  readonly clock: Clock | undefined
}

/** Keeps bridges, ports and the inside of pods as they should be, whatever other programs do to them. */
export class BridgeRepair implements AsyncDisposable {
  readonly #options: BridgeRepairOptions
  readonly #runner: BoundedRunner
  readonly #uplink: BoundedRunner
  #following = false
  #podWatch: PodWatch | undefined
  #repairs = 0
  /** What could not be done at the last look: said once. */
  #problem: string | undefined

  constructor(options: BridgeRepairOptions) {
    this.#options = options
    const { log, clock = systemClock } = options
    this.#runner = new BoundedRunner({
      run: async (reason) => {
        await this.reconcile({ everyEndpoint: reason === 'verify' })
        this.#problem = undefined
      },
      clock,
      // What cannot be repaired (a pod whose namespace somebody deleted) must not hold up what can be for longer than that.
      retry: { firstMs: 100, maxMs: 800 },
      onError: (error, { failures, retryInMs }) => {
        const problem = String(error)
        if (problem === this.#problem) return
        this.#problem = problem
        log.error({ err: error, failures, retryInMs }, 'Cannot repair the bridge networks, trying again')
      },
    })
    this.#uplink = new BoundedRunner({
      run: () => this.#followUplink(),
      clock,
      onError: (error, { failures, retryInMs }) =>
        log.error({ err: error, failures, retryInMs }, 'Cannot follow the MTU of the uplink, trying again'),
    })
  }

  /** How often something that another program changed was put back. */
  get repairs(): number {
    return this.#repairs
  }

  /** Notices changes by netlink, from now on. */
  follow(): void {
    if (this.#following) return
    this.#following = true
    const { kernel, log, pools, plans, journal, busy, deletions, clock = systemClock } = this.#options
    watchHost(kernel.rtnetlink, {
      log,
      bridge: (name) => {
        const network = pools.networks.find(({ bridge }) => bridge === name)
        return network && plans.bridge(network)
      },
      port: (name) => {
        const lease = journal.ports.get(name)
        const network = lease && pools.get(lease.network)
        return network && planPort(network, lease)
      },
      isBusy: (name) => busy.has(name),
      onChange: () => this.#runner.request(),
      onUplink: () => this.#uplink.request(),
      onGone: (index) => deletions.noteGone(index),
    })
    this.#podWatch = new PodWatch({
      kernel,
      endpoints: () => plans.host.endpoints,
      isBusy: (port) => busy.has(port),
      isUsualMtu: (mtu) => pools.networks.some((network) => network.mtu === mtu),
      onRepair: () => this.#repairs++,
      log,
      clock,
    })
  }

  /** Nothing new is begun. */
  stop(): void {
    this.#runner.stop()
    this.#uplink.stop()
  }

  /** Makes the kernel what the plan says. What is done with a reason is no repair. Throws AggregateError. */
  async reconcile(options: { everyEndpoint: boolean; because?: string }): Promise<readonly string[]> {
    const { kernel, log, plans, busy } = this.#options
    const { done, errors } = await busy.judge((names) => {
      return reconcileHost(plans.host, { kernel, busy: names, ...options })
    })
    if (this.#following && options.because === undefined) {
      if (done.length > 0) this.#repairs++
      for (const action of done) log.warn({ action }, `Repaired what another program changed: ${action}`)
    }
    if (errors.length > 0) throw new AggregateError(errors, errors.map((error) => error.message).join('; '))
    return done
  }

  /** {@link stop}s, and waits for what is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stop()
    await this.#podWatch?.[Symbol.asyncDispose]()
    await this.#runner.settled()
    await this.#uplink.settled()
  }

  /** Gives the networks that follow the uplink its MTU. */
  async #followUplink(): Promise<void> {
    const { kernel, log, pools } = this.#options
    const [links, routes] = await Promise.all([kernel.rtnetlink.links.list(), kernel.rtnetlink.routes.list()])
    const uplink = uplinkOf(links, routes)
    // Without an uplink nothing is better than what there is.
    if (!uplink) return
    const mtu = followedMtu(uplink.mtu)
    const others = pools.networks.filter((network) => network.followsUplink && network.mtu !== mtu)
    if (others.length === 0) return
    for (const network of others) pools.replace({ ...network, mtu })
    const names = others.map(({ name }) => name)
    log.info(
      { uplink: uplink.name, mtu, networks: names },
      `Networks ${names.join(', ')} follow ${uplink.name}: MTU ${mtu}`,
    )
    await this.reconcile({ everyEndpoint: true, because: `MTU of ${uplink.name}` })
  }
}
