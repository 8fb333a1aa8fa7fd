import { BoundedRunner, type RunReason } from '../base/bounded-runner.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { Snapshot } from '../model/snapshot.ts'
import { compileServices, type CompiledServices, type ProxySettings } from './compile-services.ts'
import type { Dataplane, SyncResult } from './dataplane.ts'

export interface SyncLoopOptions {
  readonly dataplane: Dataplane
  readonly clock: Clock
  readonly log: Log
  /** Whose Node object, zone and local endpoints count. */
  readonly nodeName: string
  readonly settings: ProxySettings
  /** Names of the sources whose first complete list must be in before anything is programmed. */
  readonly waitFor: readonly string[]
  /**
   * Shortest rest between two syncs, end to start. A change that comes after a rest is applied at once, a storm is
   * gathered. 20 ms: a sync of one change costs about one, so even a storm leaves the core mostly idle. @default 20
   */
  readonly minIntervalMs?: number
  /** Longest time without comparing the kernel with what is wanted. @default 3_600_000 */
  readonly maxIntervalMs?: number
  /** Wait after failures, doubled each time. @default 100 ms to 30 s */
  readonly retry?: { readonly firstMs: number; readonly maxMs: number }
  readonly signal?: AbortSignal
  /**
   * What must happen once `services` are in the kernel, before the sync counts as done: stale connections are forgotten
   * here. When it rejects, the sync has failed and is tried again.
   */
  readonly afterSync?: (services: CompiledServices, dataplane: Dataplane) => Promise<void>
  /** Called after each successful sync: for metrics and readiness. */
  readonly onSynced?: (outcome: SyncOutcome) => void
}

/** One successful sync. */
export interface SyncOutcome {
  readonly result: SyncResult
  readonly services: CompiledServices
  readonly compileMs: number
  /** Compile and sync, until all was in the kernel. */
  readonly commitMs: number
  /** Those and what had to happen then ({@link SyncLoopOptions.afterSync}). */
  readonly totalMs: number
  /** From the oldest change that this sync brought to the kernel, until it was there. */
  readonly latencyMs: number
}

/** A mode that cannot be switched to; what was there goes on. */
export class SwitchError extends Error {
  override readonly name = 'SwitchError'
}

/** A switch that was asked for, and who waits for it. */
interface ModeChange {
  readonly to: Dataplane
  readonly done: () => void
  readonly failed: (error: unknown) => void
}

/** Where the loop stands, for `/readyz`, `/healthz` and `status`. */
export interface SyncStatus {
  /** The mode that is in the kernel. */
  readonly mode: string
  /** Sources that have not delivered their first complete list yet. Nothing is programmed before it is empty. */
  readonly waitingFor: readonly string[]
  /** A first sync is in the kernel. */
  readonly ready: boolean
  /** Wall time of the last successful sync's end. */
  readonly lastSync: Date | undefined
  readonly lastResult: SyncResult | undefined
  /** How long the oldest change waits that is not in the kernel yet; 0 when there is none. */
  readonly pendingMs: number
  /** Every snapshot, setting and repair that was asked for is in the kernel: nothing waits, and no sync is under way. */
  readonly settled: boolean
  readonly syncs: number
  /** Failed syncs, ever, and in a row. */
  readonly failures: number
  readonly failuresInARow: number
  readonly lastError: unknown
  /** How often something else's change of the kernel was put right. */
  readonly repairs: number
  /** Services, frontends' problems and so on of the newest compile. */
  readonly services: CompiledServices | undefined
}

/**
 * Keeps a dataplane at the newest snapshot. Level-triggered: it knows no events, only the newest whole snapshot, so a
 * sync that is skipped, repeated or failed loses nothing.
 */
export class SyncLoop {
  readonly #options: SyncLoopOptions
  readonly #runner: BoundedRunner
  readonly #waitingFor: Set<string>
  #dataplane: Dataplane
  #change: ModeChange | undefined
  #settings: ProxySettings
  #snapshot: Snapshot | undefined
  #compiled: CompiledServices | undefined
  #pendingSince: number | undefined
  #lastSync: Date | undefined
  #lastResult: SyncResult | undefined
  #lastError: unknown
  #syncs = 0
  #failures = 0
  #repairs = 0

  constructor(options: SyncLoopOptions) {
    this.#options = options
    this.#dataplane = options.dataplane
    this.#settings = options.settings
    this.#waitingFor = new Set(options.waitFor)
    this.#runner = new BoundedRunner({
      clock: options.clock,
      run: (reason, signal) => this.#sync(reason, signal),
      onError: (error, next) => {
        this.#failures++
        this.#lastError = error
        options.log.error(
          { err: error, mode: this.#dataplane.name, ...next },
          'cannot bring Services to the kernel; trying again',
        )
      },
      ...(options.minIntervalMs !== undefined && { minIntervalMs: options.minIntervalMs }),
      ...(options.maxIntervalMs !== undefined && { maxIntervalMs: options.maxIntervalMs }),
      ...(options.retry && { retry: options.retry }),
      ...(options.signal && { signal: options.signal }),
    })
    this.#follow(options.dataplane)
  }

  /** The mode that is in the kernel. */
  get dataplane(): Dataplane {
    return this.#dataplane
  }

  /** Takes over a newer snapshot. Returns at once. */
  update(snapshot: Snapshot): void {
    this.#snapshot = snapshot
    this.#pendingSince ??= this.#options.clock.monotonic()
    this.#requestIfOpen()
  }

  /** Takes over other settings. Returns at once. */
  configure(settings: ProxySettings): void {
    this.#settings = settings
    this.#pendingSince ??= this.#options.clock.monotonic()
    this.#requestIfOpen()
  }

  /** Changes `minIntervalMs`, from the next sync on. */
  setMinInterval(ms: number): void {
    this.#runner.setMinInterval(ms)
  }

  /** Notes that the snapshots given since contain the source's first complete list. */
  sourceComplete(source: string): void {
    if (this.#waitingFor.delete(source)) this.#requestIfOpen()
  }

  /**
   * Changes the mode without an outage: the new one is programmed and verified beside the old one, then the old one goes.
   * Connections live on as long as something keeps NAT hooks registered meanwhile (nftables-anchor.ts). Rejects with
   * {@link SwitchError} when the new one cannot be had: it is removed again, and the old one goes on.
   */
  switchTo(to: Dataplane): Promise<void> {
    if (this.#change) return Promise.reject(new SwitchError(`a switch to ${this.#change.to.name} is under way`))
    return new Promise((done, failed) => {
      this.#change = { to, done, failed }
      if (this.#syncs > 0) this.#requestIfOpen()
      else {
        this.#adopt(to)?.done()
        // They were the other mode's.
        this.#runner.forgetFailures()
      }
    })
  }

  status(): SyncStatus {
    const since = this.#pendingSince
    return {
      mode: this.#dataplane.name,
      waitingFor: [...this.#waitingFor],
      ready: this.#syncs > 0,
      lastSync: this.#lastSync,
      lastResult: this.#lastResult,
      pendingMs: since === undefined ? 0 : this.#options.clock.monotonic() - since,
      settled: this.#syncs > 0 && since === undefined && !this.#runner.busy,
      syncs: this.#syncs,
      failures: this.#failures,
      failuresInARow: this.#runner.failures,
      lastError: this.#lastError,
      repairs: this.#repairs,
      services: this.#compiled,
    }
  }

  /** Starts no more syncs and resolves when the one in progress has ended. What is in the kernel stays. */
  async stop(): Promise<void> {
    this.#runner.stop()
    this.#change?.failed(new SwitchError('the daemon stops'))
    this.#change = undefined
    await this.#runner.settled()
  }

  #requestIfOpen(options: { readonly urgent?: boolean } = {}): void {
    if (this.#waitingFor.size === 0 && this.#snapshot) this.#runner.request(options)
  }

  #follow(dataplane: Dataplane): void {
    dataplane.watch?.(() => {
      // Connections may be lost meanwhile.
      if (dataplane === this.#dataplane) this.#requestIfOpen({ urgent: true })
    })
  }

  /** From now on syncs go there. Returns whom to tell. */
  #adopt(dataplane: Dataplane): ModeChange | undefined {
    const change = this.#change
    this.#change = undefined
    this.#dataplane = dataplane
    this.#follow(dataplane)
    return change
  }

  async #sync(reason: RunReason, signal: AbortSignal): Promise<void> {
    const { clock, afterSync, onSynced } = this.#options
    const began = clock.monotonic()
    const pendingSince = this.#pendingSince ?? began
    this.#pendingSince = undefined
    try {
      const services = await this.#compile()
      const compileMs = clock.monotonic() - began
      const changed = this.#change && (await this.#changeOver(this.#change.to, services, signal))
      const result = changed ?? (await this.#dataplane.sync(services, { verify: reason === 'verify', signal }))
      const committed = clock.monotonic()
      await afterSync?.(services, this.#dataplane)
      this.#syncs++
      this.#lastSync = clock.now()
      this.#lastResult = result
      if (result.repaired) this.#repairs++
      const end = clock.monotonic()
      const times = { compileMs, commitMs: committed - began, totalMs: end - began, latencyMs: end - pendingSince }
      onSynced?.({ result, services, ...times })
    } catch (error) {
      this.#pendingSince = pendingSince
      throw error
    }
  }

  /** New mode in, verified, old mode out. Undefined when the new one cannot be had. */
  async #changeOver(to: Dataplane, services: CompiledServices, signal: AbortSignal): Promise<SyncResult | undefined> {
    const { log } = this.#options
    const from = this.#dataplane
    let result: SyncResult
    try {
      result = await bringIn(to, services, signal)
    } catch (error) {
      const change = this.#change
      this.#change = undefined
      log.error({ err: error, from: from.name, to: to.name }, 'cannot switch the mode; the old one goes on')
      await to.cleanup({ keepAnchor: true }).catch((cause: unknown) => {
        log.error({ err: cause, mode: to.name }, 'cannot remove what a failed switch left')
      })
      change?.failed(error)
      return undefined
    }
    const change = this.#adopt(to)
    try {
      await from.cleanup({ keepAnchor: true })
      log.info({ from: from.name, to: to.name }, `switched from ${from.name} to ${to.name}`)
    } catch (error) {
      // Both lead connections to the same endpoints, so that nothing is lost; "fairlead cleanup" or another start removes it.
      log.error({ err: error, mode: from.name }, `switched to ${to.name}, but what ${from.name} had cannot be removed`)
    }
    change?.done()
    return result
  }

  async #compile(): Promise<CompiledServices> {
    const { nodeName, log } = this.#options
    const dataplane = this.#dataplane
    const previous = this.#compiled
    const recalled = previous ? undefined : await dataplane.recall?.()
    // Read after the wait: the newest is wanted.
    const snapshot = this.#snapshot
    if (!snapshot) throw new Error('a sync was started without a snapshot')
    const services = compileServices(snapshot, { nodeName, settings: this.#settings, previous, recalled })
    this.#compiled = services
    const before = previous?.problems ?? SharedMap.empty()
    for (const key of SharedMap.changedKeys(before, services.problems)) {
      const known = new Set(before.get(key))
      for (const problem of services.problems.get(key) ?? []) {
        if (!known.has(problem)) log.warn({ service: key }, problem)
      }
    }
    return services
  }
}

/** Programs a mode beside another, and compares the kernel with what is wanted. */
async function bringIn(to: Dataplane, services: CompiledServices, signal: AbortSignal): Promise<SyncResult> {
  const { usable, reason } = await to.probe()
  if (!usable) throw new SwitchError(`${to.name} cannot be used here: ${reason}`)
  const result = await to.sync(services, { verify: true, signal })
  const { lines } = await to.plan(services)
  if (lines.length === 0) return result
  throw new SwitchError(`${to.name} was programmed, but the kernel differs in ${lines.length} places: ${lines[0]}`)
}
