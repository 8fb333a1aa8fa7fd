import { describe, expect, it } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog, type Log } from '../base/log.ts'
import { compileServices, defaultProxySettings, type CompiledServices } from './compile-services.ts'
import type { CleanupOptions, Dataplane, SyncOptions, SyncResult } from './dataplane.ts'
import { exampleService, exampleSlice, exampleSnapshot } from './example-objects.ts'
import { SyncLoop, type SyncLoopOptions, type SyncOutcome } from './sync-loop.ts'

const noCost: SyncResult = {
  kind: 'full',
  servicesChanged: 0,
  elements: 0,
  rules: 0,
  bytes: 0,
  messages: 0,
  kernelMs: 0,
  repaired: false,
}

/** A dataplane that notes the number of Services at each sync. */
class NotingDataplane implements Dataplane {
  readonly name: string
  readonly syncs: { services: number; verify: boolean; at: number }[] = []
  duration = 0
  failing = false
  differs = false
  cleanups: (CleanupOptions | undefined)[] = []
  listener: (() => void) | undefined
  readonly #clock: FakeClock

  constructor(clock: FakeClock, name = 'noting') {
    this.#clock = clock
    this.name = name
  }

  async sync(services: CompiledServices, options?: SyncOptions): Promise<SyncResult> {
    this.syncs.push({
      services: services.services.size,
      verify: options?.verify ?? false,
      at: this.#clock.monotonic(),
    })
    if (this.duration > 0) await new Promise<void>((resolve) => this.#clock.after(this.duration, resolve))
    if (this.failing) throw new Error('the kernel said no')
    return noCost
  }

  watch(listener: () => void): void {
    this.listener = listener
  }

  probe = () => Promise.resolve({ usable: true, limits: [] })
  plan = () => Promise.resolve({ lines: this.differs ? ['add element'] : [], elements: 0, rules: 0 })
  cleanup = (options?: CleanupOptions) => {
    this.cleanups.push(options)
    return Promise.resolve()
  }
}

function loopOver(options: Partial<SyncLoopOptions> = {}) {
  const clock = new FakeClock()
  const dataplane = new NotingDataplane(clock)
  const outcomes: SyncOutcome[] = []
  const loop = new SyncLoop({
    dataplane,
    clock,
    log: silentLog,
    nodeName: 'this-node',
    settings: defaultProxySettings,
    waitFor: [],
    onSynced: (outcome) => outcomes.push(outcome),
    ...options,
  })
  return { clock, dataplane, outcomes, loop }
}

/** A snapshot of `count` Services. */
const snapshotOf = (count: number) =>
  exampleSnapshot(
    Array.from({ length: count }, (_, i) => {
      const service = exampleService(`s${i}`, { clusterIPs: [`10.96.0.${i + 1}`] })
      return [service, exampleSlice(service, ['10.0.0.1'])] as const
    }),
  )

describe('SyncLoop', () => {
  it('programs nothing before every source has delivered its first complete list', async () => {
    const { clock, dataplane, loop } = loopOver({ waitFor: ['files', 'kubernetes'] })
    loop.update(snapshotOf(1))
    loop.sourceComplete('files')
    await clock.advance(10_000)
    expect(dataplane.syncs).toEqual([])
    expect(loop.status()).toMatchObject({ waitingFor: ['kubernetes'], ready: false })
    loop.update(snapshotOf(2))
    loop.sourceComplete('kubernetes')
    await clock.advance(0)
    expect(dataplane.syncs).toEqual([{ services: 2, verify: false, at: 10_000 }])
    expect(loop.status()).toMatchObject({ waitingFor: [], ready: true })
  })

  it('applies a lone change at once and gathers a storm, always with the newest snapshot', async () => {
    const { clock, dataplane, loop } = loopOver({ minIntervalMs: 20 })
    await clock.advance(1000)
    for (let i = 1; i <= 50; i++) {
      loop.update(snapshotOf(i))
      await clock.advance(1)
    }
    await clock.advance(100)
    expect(dataplane.syncs.map((s) => s.at)).toEqual([1000, 1020, 1040, 1060])
    expect(dataplane.syncs.at(-1)?.services).toBe(50)
  })

  it('tries again after a failure, says so, and counts the latency from the change', async () => {
    const errors: object[] = []
    const log: Log = { ...silentLog, error: (fields) => errors.push(fields) }
    const { clock, dataplane, loop, outcomes } = loopOver({ log, retry: { firstMs: 100, maxMs: 1000 } })
    dataplane.failing = true
    loop.update(snapshotOf(1))
    await clock.advance(150)
    expect(loop.status()).toMatchObject({ ready: false, failures: 2, failuresInARow: 2, pendingMs: 150 })
    dataplane.failing = false
    await clock.advance(1000)
    expect(errors).toHaveLength(2)
    expect(outcomes).toHaveLength(1)
    expect(outcomes[0]?.latencyMs).toBe(300)
    expect(loop.status()).toMatchObject({ ready: true, failures: 2, failuresInARow: 0, pendingMs: 0 })
  })

  it('is settled when no change, no repair and no sync is under way', async () => {
    const { clock, dataplane, loop } = loopOver()
    const settled = (): boolean => loop.status().settled
    dataplane.duration = 50
    loop.update(snapshotOf(1))
    expect(settled()).toBe(false)
    await clock.advance(49)
    expect(settled()).toBe(false)
    await clock.advance(1)
    expect(settled()).toBe(true)
    dataplane.listener?.()
    expect(settled()).toBe(false)
    await clock.advance(1000)
    expect(settled()).toBe(true)
    // A sync of what came before does not settle what came since.
    loop.update(snapshotOf(2))
    await clock.advance(10)
    loop.update(snapshotOf(3))
    await clock.advance(40)
    expect(settled()).toBe(false)
    await clock.advance(1000)
    expect(settled()).toBe(true)
    dataplane.failing = true
    loop.update(snapshotOf(4))
    await clock.advance(1000)
    expect(settled()).toBe(false)
  })

  it('verifies when the max interval has passed', async () => {
    const { clock, dataplane, loop } = loopOver({ maxIntervalMs: 1000 })
    loop.update(snapshotOf(1))
    await clock.advance(1500)
    expect(dataplane.syncs.map((s) => s.verify)).toEqual([false, true])
  })

  it('syncs when the dataplane says that something else changed the kernel', async () => {
    const { clock, dataplane, loop } = loopOver()
    loop.update(snapshotOf(1))
    await clock.advance(1000)
    dataplane.listener?.()
    await clock.advance(0)
    expect(dataplane.syncs).toHaveLength(2)
  })

  it('logs a Service’s problem once', async () => {
    const warnings: string[] = []
    const log: Log = { ...silentLog, warn: (_fields, message) => warnings.push(message) }
    const { clock, loop } = loopOver({ log })
    const clash = exampleSnapshot([[exampleService('a')], [exampleService('b')]])
    loop.update(clash)
    await clock.advance(100)
    loop.update({
      ...clash,
      services: clash.services.with([['default/c', exampleService('c', { clusterIPs: ['10.96.0.9'] })]]),
    })
    await clock.advance(100)
    expect(warnings).toEqual([
      'default/b: spec.clusterIP 10.96.0.1 port 80/TCP is already used by default/a (the older Service keeps it)',
    ])
  })

  it('lets the sync in progress end when it is stopped, and starts no other', async () => {
    const { clock, dataplane, loop } = loopOver()
    dataplane.duration = 50
    loop.update(snapshotOf(1))
    await clock.advance(10)
    loop.update(snapshotOf(2))
    const stopped = loop.stop()
    await clock.advance(1000)
    await stopped
    expect(dataplane.syncs).toHaveLength(1)
    expect(loop.status().syncs).toBe(1)
  })

  it('hands slots that the kernel holds to the first compile', async () => {
    const { clock, dataplane, loop, outcomes } = loopOver()
    const service = exampleService('web')
    const snapshot = exampleSnapshot([[service, exampleSlice(service, ['10.0.0.1', '10.0.0.2'])]])
    const sorted = compileServices(snapshot, { nodeName: 'this-node', settings: defaultProxySettings })
    const verdict = sorted.services.get('default/web')?.frontends[0]?.verdict
    const slots = verdict?.kind === 'balance' ? [...verdict.slots].reverse() : []
    Object.assign(dataplane, { recall: () => Promise.resolve(() => slots) })
    loop.update(snapshot)
    await clock.advance(0)
    expect(outcomes[0]?.services.services.get('default/web')?.frontends[0]?.verdict).toEqual({ kind: 'balance', slots })
  })
})

describe('SyncLoop.switchTo()', () => {
  async function running() {
    const world = loopOver()
    world.loop.update(snapshotOf(1))
    world.loop.sourceComplete('files')
    await world.clock.advance(100)
    return { ...world, next: new NotingDataplane(world.clock, 'next') }
  }

  it('programs and verifies the new mode before the old one goes', async () => {
    const { loop, clock, dataplane, next } = await running()
    const order: string[] = []
    next.plan = () => (order.push('verify'), Promise.resolve({ lines: [], elements: 0, rules: 0 }))
    dataplane.cleanup = async () => {
      await Promise.resolve()
      order.push('remove')
    }
    const switched = loop.switchTo(next).then(() => order.push('done'))
    await clock.advance(100)
    await switched
    expect(order).toEqual(['verify', 'remove', 'done'])
    expect(next.syncs).toMatchObject([{ services: 1, verify: true }])
    expect(loop.status().mode).toBe('next')
    loop.update(snapshotOf(0))
    await clock.advance(1000)
    expect([dataplane.syncs.length, next.syncs.length]).toEqual([1, 2])
  })

  it.each([
    ['cannot be programmed', (next: NotingDataplane) => (next.failing = true), 'the kernel said no'],
    ['differs in the kernel', (next: NotingDataplane) => (next.differs = true), 'the kernel differs in 1 places'],
    [
      'cannot be used here',
      (next: NotingDataplane) =>
        (next.probe = () => Promise.resolve({ usable: false, reason: 'no tools', limits: [] })),
      'no tools',
    ],
  ])('keeps the old mode when the new one %s', async (_, breakIt, message) => {
    const { loop, clock, dataplane, next } = await running()
    breakIt(next)
    const switched = expect(loop.switchTo(next)).rejects.toThrow(message)
    await clock.advance(100)
    await switched
    expect(loop.status().mode).toBe('noting')
    expect([next.cleanups, dataplane.cleanups]).toEqual([[{ keepAnchor: true }], []])
    expect(loop.status().failures).toBe(0)
  })

  it('takes the new mode at once when nothing is in the kernel yet', async () => {
    const { loop, clock, dataplane } = loopOver()
    const next = new NotingDataplane(clock, 'next')
    await loop.switchTo(next)
    loop.update(snapshotOf(0))
    loop.sourceComplete('files')
    await clock.advance(100)
    expect([dataplane.syncs.length, next.syncs.length]).toEqual([0, 1])
  })

  it('does not wait for the next attempt of a mode that never worked', async () => {
    const { loop, clock, dataplane } = loopOver()
    dataplane.failing = true
    loop.update(snapshotOf(1))
    loop.sourceComplete('files')
    await clock.advance(60_000)
    const next = new NotingDataplane(clock, 'next')
    await loop.switchTo(next)
    await clock.advance(50)
    expect(next.syncs).toMatchObject([{ services: 1 }])
    expect(loop.status()).toMatchObject({ mode: 'next', ready: true, failuresInARow: 0 })
  })
})
