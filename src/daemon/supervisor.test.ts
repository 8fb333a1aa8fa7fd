import { describe, expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { readServiceEnvironment, Supervisor } from './supervisor.ts'

function setUp({ watchdogMs }: { watchdogMs?: number } = {}) {
  const clock = new FakeClock()
  const sent: string[][] = []
  const broken = { now: false }
  const socket = {
    send(assignments: readonly string[]) {
      if (broken.now) throw new Error('sendto: EAGAIN')
      sent.push([...assignments])
    },
    [Symbol.dispose]: () => {},
  }
  const supervisor = new Supervisor({ socket, watchdogMs, clock, log: silentLog })
  return { clock, sent, broken, supervisor }
}

describe('Supervisor', () => {
  test('Supervisor asks for time while it starts, saying what it waits for, and not after READY=1', async () => {
    const { clock, sent, supervisor } = setUp()
    let waiting = ['the first complete list of api']
    supervisor.follow(() => waiting)
    await clock.advance(10_000)
    waiting = ['the first sync to the kernel']
    await clock.advance(10_000)
    supervisor.ready()
    await clock.advance(60_000)
    expect(sent.map(([first]) => first)).toEqual([
      'STATUS=waiting for start',
      'STATUS=waiting for the first complete list of api',
      'STATUS=waiting for the first complete list of api',
      'STATUS=waiting for the first sync to the kernel',
      'READY=1',
    ])
    expect(sent[0]).toContain('EXTEND_TIMEOUT_USEC=60000000')
  })

  test('Supervisor feeds the watchdog twice in its time, from READY=1 to STOPPING=1', async () => {
    const { clock, sent, supervisor } = setUp({ watchdogMs: 20_000 })
    supervisor.ready()
    await clock.advance(40_000)
    expect(sent.filter(([first]) => first === 'WATCHDOG=1')).toHaveLength(5)
    supervisor.stopping()
    await clock.advance(40_000)
    expect(sent.at(-1)?.[0]).toBe('STOPPING=1')
  })

  test('Supervisor does not say READY=1 because something was reloaded during the start', () => {
    const { sent, supervisor } = setUp()
    supervisor.reloading()
    supervisor.reloaded()
    expect(sent.flat().filter((text) => /^(READY|RELOADING)/.test(text))).toEqual([])
    supervisor.ready()
    supervisor.reloading()
    supervisor.reloaded()
    expect(sent.flat().filter((text) => /^(READY|RELOADING)/.test(text))).toEqual(['READY=1', 'RELOADING=1', 'READY=1'])
  })

  test('Supervisor says later, in order, what could not be said', async () => {
    const { clock, sent, broken, supervisor } = setUp({ watchdogMs: 1_000_000 })
    broken.now = true
    supervisor.ready()
    supervisor.reloading()
    await clock.advance(3_000)
    broken.now = false
    await clock.advance(1_000)
    const [last] = sent.slice(-1)
    expect(last?.map((text) => text.replace(/\d{3,}/, 'N'))).toEqual(['READY=1', 'RELOADING=1', 'MONOTONIC_USEC=N'])
  })
})

test.each([
  [{}, { notifySocket: undefined, watchdogMs: undefined, isUnit: false }],
  [
    { NOTIFY_SOCKET: '/run/systemd/notify', WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7', SYSTEMD_EXEC_PID: '7' },
    { notifySocket: '/run/systemd/notify', watchdogMs: 30_000, isUnit: true },
  ],
  [
    { NOTIFY_SOCKET: '', WATCHDOG_USEC: '30000000', WATCHDOG_PID: '6', SYSTEMD_EXEC_PID: '6' },
    { notifySocket: undefined, watchdogMs: undefined, isUnit: false },
  ],
])('readServiceEnvironment(%j) is %j for process 7', (environment, expected) => {
  expect(readServiceEnvironment(environment, 7)).toEqual(expected)
})
