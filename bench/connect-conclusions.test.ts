import { expect, test } from 'vitest'
import { concludeConnect, lateFigure } from './connect-conclusions.ts'
import { Random } from './random.ts'
import { Recorder, type SuiteResult } from './recorder.ts'

const sizes = [10, 1000, 5000]

/** A run in which a Service costs so many ns, on a machine that gets slower and slower by whole microseconds. */
function concluded(nsForEach: Readonly<Record<string, number>>): SuiteResult {
  const random = new Random(5)
  const recorder = new Recorder('connect')
  for (let round = 0; round < 40; round++) {
    for (const [mode, ns] of Object.entries(nsForEach)) {
      for (const services of sizes) {
        const key = { figure: 'SYN to SYN-ACK', unit: 'us', kind: 'time', better: 'less', mode, services } as const
        const us = 30 + 2 * round + (ns * services) / 1000 + random.next()
        recorder.add({ ...key, labels: { target: 'last Service', protocol: 'tcp' } }, us, { round })
      }
    }
    recorder.addRound({ round, part: 'all sizes', order: [], steal: 0, foreign: 0 })
  }
  concludeConnect(recorder, { random })
  return recorder.result()
}

test('concludeConnect sees a list as a list, and a map as a map, on a machine that drifts', () => {
  const { claims, derived } = concluded({ 'iptables-legacy': 7, nftables: 0, direct: 0 })
  expect(claims.map(({ holds }) => holds)).toEqual([true, true])
  const slopes = derived.filter(({ figure }) => figure === 'SYN to SYN-ACK, for each Service')
  expect(Object.fromEntries(slopes.map(({ mode, low, high }) => [mode, high - low < 0.2]))).toEqual({
    'iptables-legacy': true,
    nftables: true,
    direct: true,
  })
  expect(slopes.find(({ mode }) => mode === 'iptables-legacy')?.value).toBeCloseTo(7, 0)
})

test('concludeConnect says so when connections get slower with every Service in nftables mode', () => {
  const { claims } = concluded({ 'iptables-legacy': 7, nftables: 0.5 })
  expect(claims.map(({ holds }) => holds)).toEqual([true, false])
})

test('concludeConnect leaves out a round in which a size is missing', () => {
  const recorder = new Recorder('connect')
  const key = { figure: 'SYN to SYN-ACK', unit: 'us', kind: 'time', better: 'less', mode: 'nftables' } as const
  for (const [services, values] of [
    [10, [30, 30, 900]],
    [1000, [31, 31]],
  ] as const) {
    for (const [round, value] of values.entries()) {
      recorder.add({ ...key, services, labels: { target: 'last Service', protocol: 'tcp' } }, value, { round })
    }
  }
  concludeConnect(recorder, { random: new Random(1) })
  expect(recorder.result().derived[0]?.value).toBeCloseTo(1000 / 990, 6)
})

test('concludeConnect judges nothing by a few rounds, and shows what was measured at one size', () => {
  const recorder = new Recorder('connect')
  const key = { figure: 'SYN to SYN-ACK', unit: 'us', kind: 'time', better: 'less' } as const
  const labels = { target: 'last Service', protocol: 'tcp' }
  for (const mode of ['nftables', 'iptables-legacy'])
    for (const value of [30, 31, 40]) recorder.add({ ...key, mode, services: 1000, labels }, value)
  concludeConnect(recorder, { random: new Random(1) })
  const { claims, skipped, texts } = recorder.result()
  expect(claims).toEqual([])
  expect(skipped).toEqual([
    { what: 'what slopes and ratios show', reason: 'of 3 rounds: 5 are the fewest to judge by' },
  ])
  expect(texts).toHaveLength(1)
  expect(texts[0]).toMatch(/Services +iptables-legacy +nftables\n1000 +31 us +31 us/)
})

test.each([
  { ns: 3.5, holds: true },
  { ns: 6.9, holds: false },
])('concludeConnect compares the middle Service, $ns ns each, with the model', ({ ns, holds }) => {
  const recorder = new Recorder('connect')
  const random = new Random(2)
  for (const services of sizes) {
    const key = { mode: 'iptables-legacy', services, better: 'less' } as const
    for (const [target, each, rules] of [
      ['middle Service', ns, 0.5],
      ['last Service', 7, 1],
    ] as const) {
      const labels = { target, protocol: 'tcp' }
      const visited = { ...key, figure: 'rules visited (model)', unit: '', kind: 'count', labels } as const
      recorder.add(visited, rules * services)
      for (let round = 0; round < 20; round++) {
        const us = 30 + (each * services) / 1000 + random.next()
        recorder.add({ ...key, figure: 'SYN to SYN-ACK', unit: 'us', kind: 'time', labels }, us, { round })
      }
    }
  }
  concludeConnect(recorder, { random })
  const claim = recorder.result().claims.find(({ text }) => text.includes('50 % of the last by the model'))
  expect(claim).toMatchObject({ holds })
  expect(claim?.seen).toMatch(
    holds ? /^(49|50|51) % \(\d+ % to \d+ %\) by the clock; 7\.\d ns for each rule$/ : /^(98|99) %/,
  )
})

test('concludeConnect has a slope of the first answer over UDP', () => {
  const recorder = new Recorder('connect')
  const key = { figure: 'time to first byte', unit: 'us', kind: 'time', better: 'less', mode: 'iptables-nft' } as const
  for (const services of sizes)
    for (let round = 0; round < 6; round++)
      recorder.add({ ...key, services, labels: { target: 'last Service', protocol: 'udp' } }, 50 + services / 100, {
        round,
      })
  concludeConnect(recorder, { random: new Random(1) })
  const [slope] = recorder.result().derived
  expect(slope).toMatchObject({ figure: 'time to first byte, for each Service', labels: { protocol: 'udp' }, times: 6 })
  expect(slope?.value).toBeCloseTo(10, 6)
})

test('concludeConnect says which modes had connections without an answer', () => {
  const recorder = new Recorder('connect')
  const key = { figure: lateFigure, unit: '', kind: 'size', better: 'less' } as const
  for (const value of [0, 2, 1]) recorder.add({ ...key, mode: 'nftables' }, value)
  recorder.add({ ...key, mode: 'direct' }, 0)
  concludeConnect(recorder, { random: new Random(1) })
  expect(recorder.result().claims).toEqual([
    { text: 'every connection is answered within a second', holds: false, seen: 'nftables 3' },
  ])
})
