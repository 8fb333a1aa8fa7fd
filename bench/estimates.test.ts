import { expect, test } from 'vitest'
import { figuresOf, figuresOfSeries } from './estimates.ts'
import { exampleResults } from './example-results.ts'
import { Recorder } from './recorder.ts'

const key = { figure: 'round trip', unit: 'us', kind: 'time', better: 'less' } as const

test('figuresOf leaves out rounds that a rule dropped', () => {
  const recorder = new Recorder('connect')
  for (const [round, value] of [10, 10, 10, 900].entries()) {
    recorder.add({ ...key, services: 10 }, value, { round })
    const dropped = value === 900 ? { dropped: 'steal above 2 %' } : {}
    recorder.addRound({ round, part: '10 Services', order: [], steal: 0, foreign: 0, ...dropped })
  }
  const [figure] = figuresOfSeries(recorder.result(), { seed: 1 })
  expect(figure).toMatchObject({ times: 3, value: 10, low: 10, high: 10 })
})

test('figuresOf keeps all rounds where a rule would drop more than half', () => {
  const recorder = new Recorder('connect')
  for (const [round, value] of [10, 20, 30].entries()) {
    recorder.add({ ...key, services: 10 }, value, { round })
    const dropped = round === 0 ? {} : { dropped: 'steal above 2 %' }
    recorder.addRound({ round, part: '10 Services', order: [], steal: 0, foreign: 0, ...dropped })
  }
  expect(figuresOfSeries(recorder.result(), { seed: 1 })[0]).toMatchObject({ times: 3, value: 20 })
})

test('figuresOf gives times as much room as direct connections differ between sizes', () => {
  const recorder = new Recorder('connect')
  for (const [services, direct] of [
    [10, 30],
    [1000, 20],
  ] as const) {
    recorder.add({ ...key, services, mode: 'direct' }, direct)
    recorder.add({ ...key, services, mode: 'nftables' }, 40)
    recorder.add({ ...key, services, mode: 'nftables', figure: 'rules', kind: 'count' }, 7)
  }
  const figures = figuresOfSeries(recorder.result(), { seed: 1 })
  const of = (figure: string): object | undefined =>
    figures.find((one) => one.mode === 'nftables' && one.figure === figure)
  // (30 - 20) / (30 + 20)
  expect(of('round trip')).toMatchObject({ value: 40, low: 32, high: 48 })
  expect(of('rules')).toMatchObject({ value: 7, low: 7, high: 7 })
})

test('figuresOf says the same each time', { timeout: 60_000 }, () => {
  expect(figuresOf(exampleResults())).toEqual(figuresOf(exampleResults()))
})
