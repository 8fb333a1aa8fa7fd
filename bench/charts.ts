import { countingSeries, figuresOf, inOrder, type Figure } from './estimates.ts'
import type { BenchResults } from './results.ts'
import { quantile } from './statistics.ts'

/** What the script of the report draws. */
export interface Chart {
  readonly id: string
  readonly title: string
  /** What to see in it. */
  readonly note: string
  readonly kind: 'lines' | 'bars'
  readonly x: Axis
  readonly y: Axis
  readonly lines: readonly ChartLine[]
}

interface Axis {
  readonly label: string
  /** Numbers at equal ratios. 0 stands where 1 would. */
  readonly log: boolean
  /** Of bars: what stands below each. */
  readonly names?: readonly string[]
}

interface ChartLine {
  readonly name: string
  /** Whose colour it has. */
  readonly mode: string
  readonly dashed?: boolean
  readonly points: readonly { readonly x: number; readonly y: number; readonly low?: number; readonly high?: number }[]
}

const servicesAxis: Axis = { label: 'Services', log: true }

/** All charts that a run has figures for. */
export function chartsOf(results: BenchResults): Chart[] {
  const figures = figuresOf(results)
  const against = (options: Omit<AgainstServices, 'figures'>): Chart | undefined =>
    againstServices({ ...options, figures })
  const connect = { suite: 'connect', y: { label: 'us', log: true } } as const
  const program = { suite: 'program', figure: '', labels: {} } as const
  return [
    against({
      ...connect,
      id: 'connect-last',
      title: 'New connections to the last Service',
      note: 'From SYN to SYN-ACK, medians with 95 % intervals. A list of rules grows with every Service; a map does not.',
      figure: 'SYN to SYN-ACK',
      labels: { target: 'last Service', protocol: 'tcp' },
    }),
    percentiles(results),
    against({
      ...connect,
      id: 'connect-none',
      title: 'Connections to no Service at all',
      note: 'What everybody else pays: these packets pass all rules, and none of them matches.',
      figure: 'SYN to SYN-ACK',
      labels: { target: 'no Service', protocol: 'tcp' },
    }),
    against({
      ...connect,
      id: 'first-byte',
      title: 'Time to the first byte of the endpoint',
      note: 'TCP, last Service. In userspace mode the handshake ends at the node, so only this shows the way to the endpoint.',
      figure: 'time to first byte',
      labels: { target: 'last Service', protocol: 'tcp' },
    }),
    against({
      ...connect,
      id: 'udp',
      title: 'First answer over UDP',
      note: 'A datagram from a new port to the last UDP Service, until its echo is there.',
      figure: 'time to first byte',
      labels: { target: 'last Service', protocol: 'udp' },
    }),
    against({
      ...connect,
      id: 'round-trip',
      title: 'Round trips on an open connection',
      note: 'Expected: no difference between the modes of the kernel, whatever the number of Services. What was decided once is remembered.',
      figure: 'round trip on one connection',
      labels: { target: 'last Service', protocol: 'tcp' },
    }),
    against({
      ...connect,
      id: 'rules-visited',
      title: 'Rules visited by the first packet (model)',
      note: 'Counted by a tracer over the rules of each mode: last Service, TCP. The clock must follow this.',
      figure: 'rules visited (model)',
      labels: { target: 'last Service', protocol: 'tcp' },
      y: { label: 'rules', log: true },
    }),
    against({
      ...program,
      id: 'program-bytes',
      title: 'Sent for one changed endpoint',
      note: 'Bytes to the kernel: the same at any size, or, with legacy iptables, the whole table again.',
      figure: 'one endpoint: bytes to the kernel',
      y: { label: 'bytes', log: true },
    }),
    against({
      ...program,
      id: 'program-change',
      title: 'Sync time of one changed endpoint',
      note: 'Compile, send and commit.',
      figure: 'one endpoint: sync',
      y: { label: 'ms', log: true },
    }),
    against({
      ...program,
      id: 'program-cold',
      title: 'Cold start',
      note: 'The first sync of a daemon.',
      figure: 'cold start: sync',
      y: { label: 'ms', log: true },
    }),
    against({
      suite: 'update',
      id: 'update-visible',
      title: 'From the event to the first packet at the new endpoint',
      note: 'An EndpointSlice is changed at the API server; a client connects until the new endpoint answers.',
      figure: 'event to first packet',
      labels: {},
      y: { label: 'ms', log: true },
    }),
    ...timelines(results),
    distribution(figures),
  ].filter((chart) => chart !== undefined)
}

interface AgainstServices {
  readonly figures: readonly Figure[]
  readonly suite: string
  readonly id: string
  readonly title: string
  readonly note: string
  readonly figure: string
  readonly labels: Readonly<Record<string, string>>
  readonly y: Axis
}

function againstServices(options: AgainstServices): Chart | undefined {
  const { figures, suite, id, title, note, figure, labels, y } = options
  const wanted = figures.filter(
    (one) =>
      one.suite === suite &&
      one.figure === figure &&
      one.services !== undefined &&
      Object.entries(labels).every(([name, value]) => one.labels?.[name] === value),
  )
  const modes = Map.groupBy(wanted, ({ mode }) => mode ?? '')
  const lines = [...modes].map(([mode, of]): ChartLine => ({
    name: mode,
    mode,
    points: of
      .map(({ services = 0, value, low, high }) => ({ x: services, y: value, low, high }))
      .toSorted((a, b) => a.x - b.x),
  }))
  if (lines.length === 0) return undefined
  return { id, title, note, kind: 'lines', x: servicesAxis, y, lines }
}

/** p50 and p99 of all single connections. */
function percentiles(results: BenchResults): Chart | undefined {
  const series = results.suites
    .filter(({ suite }) => suite === 'connect')
    .flatMap(countingSeries)
    .filter(({ figure, labels }) => figure === 'SYN to SYN-ACK' && labels?.['target'] === 'last Service')
  const lines = [...Map.groupBy(inOrder(series, results.options), ({ mode }) => mode ?? '')].flatMap(([mode, of]) =>
    [0.5, 0.99].map((share): ChartLine => ({
      name: `${mode} p${share * 100}`,
      mode,
      dashed: share !== 0.5,
      points: of
        .map(({ services = 0, raw = [] }) => ({ x: services, y: quantile(raw.flat(), share) / 1000 }))
        .toSorted((a, b) => a.x - b.x),
    })),
  )
  if (lines.length === 0) return undefined
  const note =
    'Every single connection to the last Service counts here, not medians of rounds: the middle one (p50), and the one that 1 in 100 is slower than (p99, dashed).'
  return {
    id: 'connect-percentiles',
    title: 'Percentiles of new connections',
    note,
    kind: 'lines',
    x: servicesAxis,
    y: { label: 'us', log: true },
    lines,
  }
}

/** How slow connections were while endpoints changed: one line for each mode, in order of time. */
function timelines(results: BenchResults): Chart[] {
  const series = results.suites
    .filter(({ suite }) => suite === 'update')
    .flatMap((result) => result.series)
    .filter(({ figure }) => figure === 'connection during churn')
  const sizes = [...Map.groupBy(inOrder(series, results.options), ({ services }) => services ?? 0)]
    .toSorted(([a], [b]) => b - a)
    .slice(0, 1)
  return sizes.map(([services, of]) => ({
    id: 'churn',
    title: `Connections during churn, ${services} Services`,
    note: 'Time to first byte of connections, one after another, while endpoints of every tenth Service are replaced (from second 1 on). The slowest in each tenth of a second.',
    kind: 'lines',
    x: { label: 'seconds', log: false },
    y: { label: 'ms', log: true },
    lines: of.map(({ mode = '', rounds, values }) => ({
      name: mode,
      mode,
      points: rounds.map((round, i) => ({ x: round / 10, y: values[i] ?? Number.NaN })),
    })),
  }))
}

function distribution(figures: readonly Figure[]): Chart | undefined {
  const shares = figures.filter(({ suite, figure }) => suite === 'balance' && figure === 'share of an endpoint')
  if (shares.length === 0) return undefined
  const names = [...new Set(shares.map(({ labels }) => labels?.['endpoint'] ?? ''))].toSorted()
  const lines = [...Map.groupBy(shares, ({ mode }) => mode ?? '')].map(([mode, of]): ChartLine => ({
    name: mode,
    mode,
    points: of
      .map(({ labels, value }) => ({ x: names.indexOf(labels?.['endpoint'] ?? ''), y: value }))
      .toSorted((a, b) => a.x - b.x),
  }))
  return {
    id: 'distribution',
    title: 'Distribution over endpoints',
    note: 'Share of new connections that each endpoint of one Service got. Equal bars are right.',
    kind: 'bars',
    x: { label: 'endpoint', log: false, names },
    y: { label: '%', log: false },
    lines,
  }
}
