import { expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { FakeConntrack } from './fake-conntrack.ts'
import { followConnections } from './service-connections.ts'

test('forgetRelayed() ends what led to a daemon that is gone, and nothing else', async () => {
  const conntrack = new FakeConntrack()
  conntrack.add('tcp', { from: '192.0.2.1 40000', asked: '10.96.0.1 80', to: '169.254.62.46 29461' })
  conntrack.add('tcp', { from: '2001:db8::1 40000', asked: 'fd00::1 80', to: 'fd66:6169:726c:6561::1 29461' })
  const others = [
    conntrack.add('tcp', { from: '192.0.2.1 40001', asked: '10.96.0.1 80', to: '10.0.0.7 8080' }),
    // The relays of UDP are looked after with the other stale flows.
    conntrack.add('udp', { from: '192.0.2.1 40000', asked: '10.96.0.1 53', to: '169.254.62.46 1053' }),
  ]
  using connections = followConnections({ conntrack, clock: new FakeClock(), log: silentLog })
  expect(await connections.forgetRelayed()).toBe(2)
  expect(conntrack.entries).toEqual(others)
})
