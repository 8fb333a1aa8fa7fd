import { expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { ProbeLoop, type Readiness } from './probe-loop.ts'
import { parseReadinessProbe } from './readiness-probe.ts'

function setUp(fields: object = {}, ready = false) {
  const clock = new FakeClock()
  const state = { reason: undefined as string | undefined, attempts: 0 }
  const changes: Readiness[] = []
  const probe = parseReadinessProbe({ tcpSocket: { port: 80 }, ...fields })
  const attempt = async (): Promise<string | undefined> => {
    state.attempts++
    return state.reason
  }
  const loop = new ProbeLoop({ probe, ready, clock, attempt, onChange: (change) => changes.push(change) })
  return { clock, state, changes, loop }
}

test('ProbeLoop is not ready before the first success, and asks every second until then', async () => {
  const { clock, state, changes, loop } = setUp()
  state.reason = 'connect ECONNREFUSED'
  await clock.advance(3500)
  expect([state.attempts, loop.current, changes]).toEqual([4, { ready: false, reason: 'connect ECONNREFUSED' }, []])
  state.reason = undefined
  await clock.advance(500)
  expect(changes).toEqual([{ ready: true, reason: undefined }])
  await clock.advance(9999)
  expect(state.attempts).toBe(5)
  await clock.advance(1)
  expect([state.attempts, changes.length]).toEqual([6, 1])
})

test('ProbeLoop is not ready after so many failures in a row, and ready after so many successes', async () => {
  const { clock, state, changes, loop } = setUp({ periodSeconds: 2, successThreshold: 2 }, true)
  state.reason = 'status 503'
  await clock.advance(2000)
  expect(loop.current).toEqual({ ready: true, reason: 'status 503' })
  state.reason = undefined
  await clock.advance(2000)
  state.reason = 'status 503'
  await clock.advance(4000)
  expect(changes).toEqual([])
  await clock.advance(2000)
  expect(changes).toEqual([{ ready: false, reason: 'status 503' }])
  state.reason = undefined
  await clock.advance(2000)
  expect(changes).toHaveLength(1)
  await clock.advance(2000)
  expect(changes[1]).toEqual({ ready: true, reason: undefined })
})

test('ProbeLoop waits for the initial delay, and asks nobody once disposed', async () => {
  const { clock, state, loop } = setUp({ initialDelaySeconds: 5 })
  await clock.advance(4999)
  expect(state.attempts).toBe(0)
  await clock.advance(1)
  expect(state.attempts).toBe(1)
  loop[Symbol.dispose]()
  await clock.advance(60_000)
  expect(state.attempts).toBe(1)
})
