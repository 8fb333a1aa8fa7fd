import { countingSeries, fewestValues } from './estimates.ts'
import type { Random } from './random.ts'
import type { Recorder } from './recorder.ts'
import type { Series } from './series.ts'
import { formatNumber } from './format-figure.ts'
import { lineOverRounds, median, pairedRatio, theilSen, type Estimate, type Line } from './statistics.ts'
import { formatTable } from '../src/cli/table.ts'

/** Connections and round trips of a round that took a second, and were given up. */
export const lateFigure = 'not answered within a second'

/** What a Service costs connections to a target in a mode. */
interface Slope {
  readonly mode: string
  readonly target: string
  /** us against the number of Services. */
  readonly line: Line
  /** Rules visited for one more Service, by the model. */
  readonly rules: number | undefined
}

/** Works out slopes, ratios to direct connections, and whether the complexity is what is claimed. */
export function concludeConnect(recorder: Recorder, { random }: { readonly random: Random }): void {
  const series = countingSeries(recorder.result())
  const modes = [...new Set(series.map(({ mode }) => mode ?? ''))]
  const targets = ['first Service', 'middle Service', 'last Service', 'no Service']
  const slopes: Slope[] = []
  const firstBytes: Slope[] = []
  for (const mode of modes) {
    for (const target of targets) {
      const slope = slopeOf(series, { mode, target, protocol: 'tcp', random })
      if (!slope) continue
      slopes.push(slope)
      const key = { unit: 'ns', kind: 'time', better: 'less', mode, labels: { target, protocol: 'tcp' } } as const
      recorder.derive({ ...key, figure: 'SYN to SYN-ACK, for each Service' }, inNs(slope.line.slope))
    }
    // Of UDP, and of userspace mode, whose handshake ends at the node, only this reaches the endpoint.
    for (const protocol of ['tcp', 'udp']) {
      const slope = slopeOf(series, { mode, target: 'last Service', figure: 'time to first byte', protocol, random })
      const labels = { target: 'last Service', protocol }
      const key = { unit: 'ns', kind: 'time', better: 'less', mode, labels } as const
      if (!slope) continue
      recorder.derive({ ...key, figure: 'time to first byte, for each Service' }, inNs(slope.line.slope))
      firstBytes.push({ ...slope, target: `last Service, ${protocol}` })
    }
    if (mode !== 'direct') recordRatios(recorder, { series, mode, random })
  }
  if (slopes.length > 0) recorder.print(`SYN to SYN-ACK (TCP)\n${formatSlopes(slopes)}`)
  if (firstBytes.length > 0) recorder.print(`Time to first byte\n${formatSlopes(firstBytes)}`)
  if (series.length > 0) recorder.print(formatLevels(series))
  claimAnswers(recorder, series)
  const rounds = Math.max(0, ...series.map(({ kind, values }) => (kind === 'count' ? 0 : values.length)))
  if (rounds < fewestValues) {
    recorder.skip('what slopes and ratios show', `of ${rounds} rounds: ${fewestValues} are the fewest to judge by`)
    return
  }
  claimShapes(recorder, slopes)
  claimRatios(recorder, { series, random })
}

interface SlopeOf {
  readonly mode: string
  readonly target: string
  readonly protocol: string
  /** @default SYN to SYN-ACK */
  readonly figure?: string
  readonly random: Random
}

/** The line of a target over the sizes. Of direct connections, too: they know of no Services, and show what a slope of nothing looks like. */
function slopeOf(
  series: readonly Series[],
  { mode, target, protocol, figure = 'SYN to SYN-ACK', random }: SlopeOf,
): Slope | undefined {
  const of = (figure: string): Series[] =>
    series.filter(
      (one) =>
        one.figure === figure &&
        one.mode === mode &&
        one.labels?.['target'] === target &&
        one.labels['protocol'] === protocol,
    )
  const sizes = of(figure)
  const points = sizes.flatMap(({ services: x = 0, rounds, values }) =>
    rounds.map((round, i) => ({ round, x, y: values[i] ?? Number.NaN })),
  )
  // A size that failed on the way is not in all rounds.
  const rounds = [...Map.groupBy(points, ({ round }) => round).values()].filter((one) => one.length === sizes.length)
  if (sizes.length < 2 || rounds.length === 0) return undefined
  const rules = of('rules visited (model)').map(({ services: x = 0, values: [y = Number.NaN] }) => ({ x, y }))
  return {
    mode,
    target,
    line: lineOverRounds(rounds, { random }),
    rules: rules.length < 2 ? undefined : theilSen(rules).slope,
  }
}

/** Values of the same rounds. */
function pairs(one: Series, base: Series): [number, number][] {
  const other = new Map(base.rounds.map((round, i) => [round, base.values[i] ?? Number.NaN]))
  return one.rounds.flatMap((round, i) => {
    const baseline = other.get(round)
    const value = one.values[i]
    return baseline === undefined || value === undefined ? [] : [[value, baseline]]
  })
}

function recordRatios(
  recorder: Recorder,
  { series, mode, random }: { readonly series: readonly Series[]; readonly mode: string; readonly random: Random },
): void {
  for (const one of series) {
    if (one.mode !== mode || one.kind === 'count') continue
    const target = one.labels?.['target'] === 'no Service' ? 'no Service' : 'last Service'
    const base = series.find(
      (other) =>
        other.mode === 'direct' &&
        other.figure === one.figure &&
        other.services === one.services &&
        other.labels?.['target'] === target &&
        other.labels['protocol'] === one.labels?.['protocol'],
    )
    if (!base) continue
    const { figure, services, endpoints, labels, better } = one
    const key = { figure: `${figure}, times direct`, unit: 'x', kind: one.kind, better, mode, labels: labels ?? {} }
    recorder.derive(
      { ...key, ...(services !== undefined && { services }), ...(endpoints !== undefined && { endpoints }) },
      pairedRatio(pairs(one, base), { random }),
    )
  }
}

function claimAnswers(recorder: Recorder, series: readonly Series[]): void {
  const late = series.filter(({ figure }) => figure === lateFigure)
  if (late.length === 0) return
  const total = (of: readonly Series[]): number => of.flatMap(({ values }) => values).reduce((a, b) => a + b, 0)
  const seen = [...Map.groupBy(late, ({ mode }) => mode ?? '')]
    .filter(([, of]) => total(of) > 0)
    .map(([mode, of]) => `${mode} ${total(of)}`)
  recorder.claim('every connection is answered within a second', total(late) === 0, seen.join(', ') || 'all were')
}

function claimShapes(recorder: Recorder, slopes: readonly Slope[]): void {
  const last = (mode: string): Slope | undefined =>
    slopes.find((slope) => slope.mode === mode && slope.target === 'last Service')
  const linear = last('iptables-legacy') ?? last('iptables-nft')
  if (!linear) return
  const reference = linear.line.slope
  recorder.claim(
    `connections to the last Service take longer with every Service in ${linear.mode} mode`,
    reference.low > 0,
    formatSlope(linear.line),
  )
  for (const mode of ['nftables', 'ipvs']) {
    const flat = last(mode)
    if (!flat) continue
    const { value, low, high } = flat.line.slope
    const isFlat = (low <= 0 && high >= 0) || Math.abs(value) < 0.02 * reference.value
    recorder.claim(
      `they do not in ${mode} mode (the interval holds 0, or less than 2 % of ${linear.mode})`,
      isFlat,
      formatSlope(flat.line),
    )
  }
  for (const mode of ['iptables-legacy', 'iptables-nft']) {
    const positions = ['first Service', 'middle Service', 'last Service'].map((target) =>
      slopes.find((slope) => slope.mode === mode && slope.target === target),
    )
    const [, middle, end] = positions
    if (!middle?.rules || !end?.rules) continue
    const whole = end.line.slope.value
    const [measured, low, high] = (['value', 'low', 'high'] as const).map(
      (which) => middle.line.slope[which] / whole,
    ) as [number, number, number]
    const model = middle.rules / end.rules
    recorder.claim(
      `${mode}: time follows the rules visited: the middle Service costs ${percent(model)} of the last by the model`,
      whole > 0 && low < model + 0.15 && high > model - 0.15,
      `${percent(measured)} (${percent(low)} to ${percent(high)}) by the clock; ${((end.line.slope.value * 1000) / end.rules).toFixed(1)} ns for each rule`,
    )
  }
}

/** At the largest size: what is expected of modes beside each other. */
function claimRatios(
  recorder: Recorder,
  { series, random }: { readonly series: readonly Series[]; readonly random: Random },
): void {
  const services = Math.max(...series.map((one) => one.services ?? 0))
  const ratioOf = (figure: string, mode: string, base: string): Estimate | undefined => {
    const [one, other] = [mode, base].map((name) =>
      series.find(
        ({ labels, ...found }) =>
          found.figure === figure &&
          found.mode === name &&
          found.services === services &&
          labels?.['target'] === 'last Service' &&
          labels['protocol'] === 'tcp',
      ),
    )
    return one && other && pairedRatio(pairs(one, other), { random })
  }
  for (const mode of ['iptables-legacy', 'iptables-nft', 'ipvs']) {
    const ratio = ratioOf('round trip on one connection', mode, 'nftables')
    if (!ratio) continue
    const text = `round trips on an open connection take as long in ${mode} mode as in nftables mode, within 10 %, at ${services} Services`
    recorder.claim(text, ratio.low < 1.1 && ratio.high > 0.9, formatRatio(ratio))
  }
  const slower = ratioOf('time to first byte', 'userspace', 'nftables')
  if (!slower) return
  const text = `the first byte of a connection takes longer in userspace mode than in nftables mode, at ${services} Services`
  recorder.claim(text, slower.low > 1, formatRatio(slower))
}

/** Of us. */
function inNs({ value, low, high, times = 0 }: Estimate): Estimate {
  return { value: value * 1000, low: low * 1000, high: high * 1000, times }
}

function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`
}

function formatRatio({ value, low, high }: Estimate): string {
  return `${value.toFixed(2)}x (${low.toFixed(2)} to ${high.toFixed(2)})`
}

function formatSlopes(slopes: readonly Slope[]): string {
  const rows = slopes.map(({ mode, target, line, rules }) => [
    mode,
    target,
    `${line.intercept.value.toFixed(1)} us`,
    formatSlope(line),
    rules === undefined ? '' : rules.toFixed(3),
  ])
  const head = ['mode', 'connections to', 'without Services', 'for each Service', 'rules for each Service']
  return formatTable(head, rows)
}

function formatSlope({ slope: { value, low, high } }: Line): string {
  const ns = (us: number): string => (us * 1000).toFixed(2)
  return `${ns(value)} ns (${ns(low)} to ${ns(high)})`
}

/** Sizes down, modes across. */
function formatLevels(series: readonly Series[]): string {
  const last = series.filter(
    ({ figure, labels }) =>
      figure === 'SYN to SYN-ACK' && labels?.['target'] === 'last Service' && labels['protocol'] === 'tcp',
  )
  const modes = [...new Set(last.map(({ mode }) => mode ?? ''))].toSorted()
  const sizes = [...new Set(last.map(({ services }) => services ?? 0))].toSorted((a, b) => a - b)
  const rows = sizes.map((size) => [
    String(size),
    ...modes.map((mode) => {
      const found = last.find((one) => one.mode === mode && (one.services ?? 0) === size)
      return found ? `${formatNumber(median(found.values))} us` : ''
    }),
  ])
  return `SYN to SYN-ACK of the last Service (TCP), medians\n${formatTable(['Services', ...modes], rows)}`
}
