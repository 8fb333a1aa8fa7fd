import { expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { defaultProxySettings } from '../proxy/compile-services.ts'
import type { Dataplane } from '../proxy/dataplane.ts'
import { exampleSnapshot } from '../proxy/example-objects.ts'
import { SyncLoop } from '../proxy/sync-loop.ts'
import { parseConfig } from './config.ts'
import { DaemonStatus } from './status.ts'

test('DaemonStatus says why Services cannot be brought to the kernel', async () => {
  const clock = new FakeClock()
  const dataplane: Dataplane = {
    name: 'ipvs',
    probe: async () => ({ usable: false, limits: [] }),
    plan: async () => ({ lines: [], elements: 0, rules: 0 }),
    sync: () => Promise.reject(new Error('this kernel has no IPVS')),
    cleanup: async () => {},
  }
  const status = new DaemonStatus(parseConfig({ nodeName: 'node-1' }, { origin: 'test', relativeTo: '/' }), '0')
  status.loop = new SyncLoop({
    dataplane,
    clock,
    log: silentLog,
    nodeName: 'node-1',
    settings: defaultProxySettings,
    waitFor: [],
  })
  expect(status.view().services?.problems).toEqual([])
  status.loop.update(exampleSnapshot([]))
  await clock.advance(50)
  expect(status.view().services?.problems).toEqual([
    'Services cannot be brought to the kernel: this kernel has no IPVS',
  ])
  await status.loop.stop()
})
