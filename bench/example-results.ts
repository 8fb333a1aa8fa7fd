import { Random } from './random.ts'
import { Recorder } from './recorder.ts'
import { resultsSchema, type BenchResults } from './results.ts'

/** Results of a run that never was, with a figure of each kind: for tests. `shift`: all times are so much longer. */
export function exampleResults({ note = 'a table', shift = 1, seed = 1 } = {}): BenchResults {
  const random = new Random(seed)
  const noisy = (value: number): number => value * (0.95 + random.next() / 10) * shift
  const connect = new Recorder('connect')
  const program = new Recorder('program')
  const update = new Recorder('update')
  const balance = new Recorder('balance')
  for (const mode of ['nftables', 'iptables-legacy', 'direct', 'kube-proxy']) {
    const perService = mode === 'iptables-legacy' || mode === 'kube-proxy' ? 0.0066 : 0
    for (const services of [0, 10, 1000, 20_000]) {
      for (let round = 0; round < 15; round++) {
        for (const target of ['last Service', 'no Service']) {
          const raw = Array.from({ length: 20 }, () => Math.round(noisy(30_000 + services * perService * 1000)))
          const key = { figure: 'SYN to SYN-ACK', unit: 'us', kind: 'time', better: 'less', mode, services } as const
          const middle = raw.toSorted((a, b) => a - b)[10] ?? 0
          connect.add({ ...key, labels: { target, protocol: 'tcp' } }, middle / 1000, { round, raw })
        }
      }
      if (mode === 'direct' || services === 0) continue
      const bytes = {
        figure: 'one endpoint: bytes to the kernel',
        unit: 'bytes',
        kind: 'count',
        better: 'less',
        mode,
        services,
      } as const
      program.add(bytes, perService > 0 ? 900 + services * 0.1 : 416)
      const visible = {
        figure: 'event to first packet',
        unit: 'ms',
        kind: 'time',
        better: 'less',
        mode,
        services,
      } as const
      for (let round = 0; round < 5; round++) update.add(visible, noisy(5 + services * perService), { round })
      for (let tenth = 0; tenth < 40; tenth++) {
        const churn = {
          figure: 'connection during churn',
          unit: 'ms',
          kind: 'time',
          better: 'neither',
          mode,
          services,
        } as const
        update.add(churn, noisy(tenth === 10 ? 20 : 0.2), { round: tenth })
      }
    }
    if (mode === 'direct') continue
    for (const endpoint of ['1', '2', '3', '4', '5']) {
      const share = { figure: 'share of an endpoint', unit: '%', kind: 'share', better: 'neither', mode } as const
      balance.add({ ...share, labels: { endpoint } }, noisy(20) / shift)
    }
  }
  connect.claim('the map is flat', true, 'it is')
  connect.claim('the list is flat', false, 'it is not')
  connect.skip('another thing', 'it is not there')
  connect.print(note)
  return {
    schema: resultsSchema,
    fairlead: '0.0.0',
    machine: {
      date: '2026-01-02T03:04:05.000Z',
      kernel: '6.12.0',
      cpu: 'Example CPU',
      cpus: 2,
      governor: 'performance',
      hypervisor: '',
      memoryGb: 8,
      node: '24.0.0',
      versions: { nft: '1.0.6' },
      load: 0.1,
    },
    options: {
      suites: [],
      scale: 'quick',
      modes: ['nftables', 'iptables-legacy', 'direct'],
      modesNamed: false,
      peers: [],
      services: [0, 10, 1000, 20_000],
      endpoints: 5,
      rounds: 15,
      seed,
      startLimitMs: 1000,
      many: 1,
      manyRounds: 1,
      out: 'out',
      compare: undefined,
      json: false,
      force: false,
    },
    missingModes: { ipvs: 'the kernel has none' },
    dropRule: { steal: 0.02, foreign: 0.25 },
    tookMs: 60_000,
    suites: [connect, program, update, balance].map((recorder) => recorder.result()),
  }
}
