import { expect, test } from 'vitest'
import { figuresOf, figuresOfSeries, inOrder } from './estimates.ts'
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

test('figuresOf leaves out dropped rounds of a suite that measures all sizes in each, but no counts', () => {
  const recorder = new Recorder('connect')
  for (const round of [0, 1, 2]) {
    const dropped = round === 0 ? { dropped: 'steal above 2 %' } : {}
    recorder.addRound({ round, part: 'all sizes', order: [], steal: 0, foreign: 0, ...dropped })
    for (const services of [10, 1000]) recorder.add({ ...key, services }, round === 0 ? 900 : 10, { round })
  }
  recorder.add({ ...key, services: 10, figure: 'rules', kind: 'count' }, 7)
  const figures = figuresOfSeries(recorder.result(), { seed: 1 })
  expect(figures.map(({ value, times }) => ({ value, times }))).toEqual([
    { value: 10, times: 2 },
    { value: 10, times: 2 },
    { value: 7, times: 1 },
  ])
})

test('figuresOf says the same each time', { timeout: 60_000 }, () => {
  expect(figuresOf(exampleResults())).toEqual(figuresOf(exampleResults()))
})

test('inOrder has the modes as the options have them, and small sizes first', () => {
  const { options } = exampleResults()
  const of = (mode: string, services: number) => ({ ...key, mode, services })
  const drawn = [of('kube-proxy', 10), of('direct', 1000), of('nftables', 1000), of('direct', 10), of('nftables', 10)]
  const names = inOrder(drawn, options).map(({ mode, services }) => `${mode} ${services}`)
  expect(names).toEqual(['nftables 10', 'nftables 1000', 'direct 10', 'direct 1000', 'kube-proxy 10'])
})
