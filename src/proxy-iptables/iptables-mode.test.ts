import { describe, expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { FakeIptables } from '../iptables/fake-iptables.ts'
import { OwnRestores } from '../iptables/own-restores.ts'
import { compileServices, defaultProxySettings } from '../proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { IptablesMode } from './iptables-mode.ts'
import type { IptablesParts } from './iptables-parts.ts'

/** Counts how often the tables are read. */
class NotingIptables extends FakeIptables {
  reads = 0
  failing = false

  override async save(...tables: Parameters<FakeIptables['save']>): ReturnType<FakeIptables['save']> {
    this.reads++
    if (this.failing) throw new Error('cannot be read now')
    return await super.save(...tables)
  }
}

const services = compileServices(
  exampleSnapshot([[exampleService('web'), exampleSlice(exampleService('web'), ['10.0.0.1', '10.0.0.2'])]]),
  { nodeName: 'n', settings: defaultProxySettings },
)

function modeOver(
  tools: FakeIptables,
  opened: Promise<void> = Promise.resolve(),
  clock = new FakeClock(),
): IptablesMode {
  const parts: IptablesParts = {
    clients: [tools],
    sets: undefined,
    nft: undefined,
    restores: new OwnRestores(clock),
    features: { addressSets: false, liberalConntrack: false },
    limits: [],
    others: () => Promise.resolve([]),
    [Symbol.dispose]: () => {},
  }
  const open = async (): Promise<IptablesParts> => {
    await opened
    return parts
  }
  return new IptablesMode(open, { log: silentLog, clock })
}

describe('IptablesMode.prepare()', () => {
  test('reads what the first sync needs, and no other sync believes it', async () => {
    const tools = new NotingIptables(4)
    using mode = modeOver(tools)
    await mode.prepare()
    expect(tools.reads).toBe(1)
    await mode.sync(services)
    expect(tools.reads).toBe(1)
    await mode.prepare()
    expect(await mode.sync(services, { verify: true })).toMatchObject({ rules: 0 })
    expect(tools.reads).toBe(2)
  })

  test('starts the tool that is to write, and only where nothing is there', async () => {
    const tools = new NotingIptables(4)
    {
      using mode = modeOver(tools)
      await mode.prepare()
      await expect.poll(() => tools.waiting).toBe(1)
    }
    expect(tools.waiting).toBe(0)
    using mode = modeOver(tools)
    await mode.prepare()
    await expect.poll(() => tools.waiting).toBe(1)
    expect((await mode.sync(services)).rules).toBeGreaterThan(0)
    expect(tools.waiting).toBe(0)
    using next = modeOver(tools)
    await next.prepare()
    expect(await next.sync(services)).toMatchObject({ rules: 0 })
    expect(tools.waiting).toBe(0)
  })

  test('ends the tool that waits after a minute: sources may never say what they have', async () => {
    const tools = new NotingIptables(4)
    const clock = new FakeClock()
    using mode = modeOver(tools, undefined, clock)
    await mode.prepare()
    await expect.poll(() => tools.waiting).toBe(1)
    await clock.advance(61_000)
    expect(tools.waiting).toBe(0)
    expect((await mode.sync(services)).rules).toBeGreaterThan(0)
  })

  test('ends the tool that waits before rules are removed', async () => {
    const tools = new NotingIptables(4)
    using mode = modeOver(tools)
    await mode.prepare()
    await expect.poll(() => tools.waiting).toBe(1)
    await mode.cleanup()
    expect(tools.waiting).toBe(0)
  })

  test('reads nothing when it comes late: a sync may be writing', async () => {
    const tools = new NotingIptables(4)
    const { promise: opened, resolve: open } = Promise.withResolvers<void>()
    using mode = modeOver(tools, opened)
    const prepared = mode.probe().then(() => mode.prepare())
    const synced = mode.sync(services)
    open()
    await Promise.all([prepared, synced])
    expect(tools.reads).toBe(1)
    const jumps = (await tools.save()).get('nat')?.get('PREROUTING')
    expect(await mode.sync(services, { verify: true })).toMatchObject({ rules: 0 })
    expect((await tools.save()).get('nat')?.get('PREROUTING')).toEqual(jumps)
    expect(jumps).toHaveLength(1)
  })

  test('does not make the first sync fail by what failed then', async () => {
    const tools = new NotingIptables(4)
    using mode = modeOver(tools)
    tools.failing = true
    await mode.prepare()
    await Promise.resolve()
    tools.failing = false
    expect((await mode.sync(services)).rules).toBeGreaterThan(0)
    expect(tools.reads).toBe(2)
  })
})
