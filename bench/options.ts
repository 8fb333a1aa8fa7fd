import { parseArgs } from 'node:util'
import { maxEndpoints, maxServices } from './generate-services.ts'
import { benchModes, type BenchMode } from './modes.ts'
import { mostNodes } from './traffic-lab.ts'
import { BenchUsageError } from './usage-error.ts'

/** How much is measured when nothing more is said: in minutes, in tens of minutes, or all sizes. */
export type Scale = 'quick' | 'normal' | 'full'

/** An external proxy that stands in the run (bench/README.md, "Peers"). */
export interface Peer {
  readonly name: string
  /** For `sh -c`. */
  readonly command: string
}

/** What is to be measured, and how often. */
export interface BenchOptions {
  /** Empty: those that run by default. */
  readonly suites: readonly string[]
  readonly scale: Scale
  readonly modes: readonly BenchMode[]
  /** The user named them: what cannot run here is an error, not left out. */
  readonly modesNamed: boolean
  readonly peers: readonly Peer[]
  /** Numbers of Services. */
  readonly services: readonly number[]
  /** Of each Service. */
  readonly endpoints: number
  readonly rounds: number
  /** Of everything that is drawn. */
  readonly seed: number
  /** That a mode may take to its first sync before it is given up. */
  readonly startLimitMs: number
  /** attach: endpoints at once, and how often. */
  readonly many: number
  readonly manyRounds: number
  /** Where the results go. */
  readonly out: string
  /** The results.json of another run to compare with. */
  readonly compare: string | undefined
  readonly json: boolean
  /** Measure on a busy machine, too. */
  readonly force: boolean
}

const scales: Readonly<Record<Scale, Pick<BenchOptions, 'modes' | 'services' | 'rounds' | 'manyRounds' | 'many'>>> = {
  quick: {
    modes: ['nftables', 'iptables-legacy', 'ipvs', 'userspace', 'direct'],
    services: [10, 1000, 5000],
    rounds: 40,
    many: 50,
    manyRounds: 2,
  },
  normal: {
    modes: ['nftables', 'iptables-legacy', 'iptables-nft', 'ipvs', 'userspace', 'direct'],
    services: [10, 100, 1000, 5000, 10_000],
    rounds: 60,
    many: 200,
    manyRounds: 5,
  },
  full: {
    modes: ['nftables', 'iptables-legacy', 'iptables-nft', 'ipvs', 'userspace', 'direct'],
    services: [0, 10, 100, 1000, 5000, 10_000, 20_000],
    rounds: 100,
    many: 200,
    manyRounds: 5,
  },
}

/** Flags as `--help` lists them. */
export const flagHelp = `Options
  --quick              under five minutes: 10, 1,000 and 5,000 Services, 40 rounds
  --full               0 to 20,000 Services, 100 rounds: an hour and more
  --modes M,M,...      ${benchModes.join(', ')}
                       (default: all that this machine has; --quick: without iptables-nft)
  --peer '[NAME=]COMMAND'  also an external proxy, with $KUBECONFIG of an API server that has the Services; may be repeated
  --services N,N,...   numbers of Services (default 10,100,1000,5000,10000)
  --endpoints N        endpoints of each Service (default 5)
  --rounds N           how often each figure is measured at most (default 60)
  --seed N             of everything that is drawn (default: another one in each run; it is in the results)
  --start-limit N      seconds that a mode may take to its first sync before it is given up (default 400)
  --many N             attach: endpoints at once (default 200)
  --many-rounds N      attach: how often that (default 5; contenders that need 5 s for it have one)
  --out DIR            where results.json, summary.md and report.html go (default bench/out)
  --compare FILE       the results.json of another run: says what moved beyond noise; exit code 3 when too much did
  --force              on a busy machine, too
  --json               print the results as JSON instead of tables
  -h, --help`

/** Reads the command line. Throws {@link BenchUsageError}, before anything has started. `help`: only that is wanted. */
export function parseOptions(
  argv: readonly string[],
  known: { readonly suites: readonly string[]; readonly out: string },
): BenchOptions | 'help' {
  const { values, positionals } = parse(argv)
  if (values.help) return 'help'
  const suites = [...new Set(positionals.includes('all') ? known.suites : positionals)]
  const unknown = suites.filter((suite) => !known.suites.includes(suite))
  if (unknown.length > 0) fail(`unknown suite ${unknown.join(', ')}: expected ${[...known.suites, 'all'].join(', ')}`)
  if (values.quick && values.full) fail('--quick and --full: expected one of them')
  const scale = values.quick ? 'quick' : values.full ? 'full' : 'normal'
  const { modes } = values
  const endpoints = count('--endpoints', values.endpoints, { from: 1, to: 1000 })
  const services =
    values.services === undefined
      ? scales[scale].services
      : unique('--services', values.services)
          .map((text) => count('--services', text, { from: 0, to: maxServices }))
          .toSorted((a, b) => a - b)
  const most = Math.max(...services)
  if (most * endpoints > maxEndpoints)
    fail(`${most} Services x ${endpoints}: the address plan has room for ${maxEndpoints} endpoints`)
  const chosen = modes === undefined ? scales[scale].modes : unique('--modes', modes).map(modeNamed)
  const peers = peersOf(values.peer)
  const nodes = services.length * (chosen.length + peers.length)
  if (nodes > mostNodes)
    fail(
      `--services: ${services.length} sizes of ${chosen.length + peers.length} modes are ${nodes} nodes at once: the address plan has room for ${mostNodes}`,
    )
  return {
    suites,
    scale,
    modes: chosen,
    modesNamed: modes !== undefined,
    peers,
    services,
    endpoints,
    rounds: count('--rounds', values.rounds ?? String(scales[scale].rounds), { from: 1, to: 10_000 }),
    seed: count('--seed', values.seed ?? String(Math.trunc(Math.random() * 2 ** 31)), { from: 0, to: 2 ** 32 - 1 }),
    startLimitMs: count('--start-limit', values['start-limit'], { from: 1, to: 3600 }) * 1000,
    many: count('--many', values.many ?? String(scales[scale].many), { from: 1, to: 1000 }),
    manyRounds: count('--many-rounds', values['many-rounds'] ?? String(scales[scale].manyRounds), { from: 1, to: 100 }),
    out: values.out ?? known.out,
    compare: values.compare,
    json: values.json,
    force: values.force,
  }
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        quick: { type: 'boolean', default: false },
        full: { type: 'boolean', default: false },
        modes: { type: 'string' },
        peer: { type: 'string', multiple: true, default: [] },
        services: { type: 'string' },
        endpoints: { type: 'string', default: '5' },
        rounds: { type: 'string' },
        seed: { type: 'string' },
        'start-limit': { type: 'string', default: '400' },
        many: { type: 'string' },
        'many-rounds': { type: 'string' },
        out: { type: 'string' },
        compare: { type: 'string' },
        force: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (error) {
    throw new BenchUsageError((error as Error).message, { cause: error })
  }
}

function unique(flag: string, text: string): string[] {
  const words = text.split(',').map((word) => word.trim())
  const twice = words.find((word, i) => words.indexOf(word) !== i)
  if (twice !== undefined) fail(`${flag} ${text}: ${twice} is named twice`)
  return words
}

function count(flag: string, text: string, { from, to }: { from: number; to: number }): number {
  const number = Number(text)
  const isWhole = /^\d+$/.test(text.trim())
  if (isWhole && number >= from && number <= to) return number
  const why = flag === '--services' && isWhole && number > to ? ', which is what the address plan has room for' : ''
  return fail(`${flag} ${text}: expected a whole number from ${from} to ${to}${why}`)
}

function modeNamed(text: string): BenchMode {
  return benchModes.find((name) => name === text) ?? fail(`--modes ${text}: expected ${benchModes.join(', ')}`)
}

function peersOf(texts: readonly string[]): Peer[] {
  const peers = texts.map(peerOf)
  const names = peers.map(({ name }) => name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) fail(`--peer: two are called ${twice}; write NAME=COMMAND`)
  return peers
}

/** `NAME=COMMAND`, or a command, whose program is the name then. */
function peerOf(text: string): Peer {
  const [, name, command] = /^([A-Za-z][\w.-]*)=(?!=)(.+)$/s.exec(text) ?? [undefined, undefined, text]
  const program = /(?:^|\/)([^/\s]+)(?:\s|$)/.exec(command?.trim() ?? '')?.[1]
  const called = name ?? program ?? fail(`--peer ${text}: expected a command`)
  if (benchModes.some((mode) => mode === called))
    fail(`--peer ${text}: ${called} is the name of a mode; write NAME=COMMAND`)
  return { name: called, command: command ?? '' }
}

function fail(message: string): never {
  throw new BenchUsageError(message)
}
