import { Command } from 'commander'
import type { NetworkSummaryView, PodView, ServiceExplanationView } from '../daemon/control-api.ts'
import { explainPacket, type Explanation } from '../daemon/explain.ts'
import { readExplainFacts } from '../daemon/read-explain-facts.ts'
import { formatServiceExplanation } from './format-service-explanation.ts'
import { ParseError } from '../net/parse-error.ts'
import { parseTransportAddress, type TransportAddress } from '../net/transport-address.ts'
import { callDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'
import { UsageError } from './usage-error.ts'

/** `fairlead explain [FROM] HOST:PORT`: exits 0 when the packet reaches an endpoint or the host, 1 when we refuse it or the kernel disagrees. */
export function explainCommand(): Command {
  return new Command('explain')
    .description('the way of a new connection to a published port, a node port or a Service, step by step')
    .argument('<words...>', '[FROM ->] HOST:PORT[/udp], where FROM is an address, "node" or a pod')
    .addOption(socketOption())
    .option('--json', 'print as JSON')
    .addHelpText('after', explainHelp)
    .action(async (words: readonly string[], options: { socket: string; json?: boolean }) => {
      const { from, text } = parseWay(words)
      if (from !== undefined) {
        const query = new URLSearchParams({ from, to: text })
        const view = await callDaemon<ServiceExplanationView>(options.socket, 'GET', `/explain?${query.toString()}`)
        console.log(options.json ? JSON.stringify(view) : formatServiceExplanation(view))
        process.exitCode = view.differences.length > 0 || !['endpoints', 'not-ours'].includes(view.outcome) ? 1 : 0
        return
      }
      const to = parseDestination(text)
      const { networks } = await callDaemon<{ networks: NetworkSummaryView[] }>(options.socket, 'GET', '/networks')
      const { pods } = await callDaemon<{ pods: PodView[] }>(options.socket, 'GET', '/pods')
      const explanation = explainPacket(to, await readExplainFacts({ networks, pods }))
      console.log(options.json ? JSON.stringify(explanation) : formatExplanation(explanation))
      process.exitCode = explanation.outcome === 'refused' || explanation.outcome === 'dropped' ? 1 : 0
    })
}

const explainHelp = `
With FROM: which frontend of which Service it meets, which endpoints are candidates with what share, why the others are not,
whether the client's address is kept, the rules and elements in the kernel that decide, and whether the kernel agrees.
Without: the way of a connection from outside to a published port, as the kernel has it.

  fairlead explain 10.88.0.5 10.96.0.80:80
  fairlead explain 'node -> [fd00:96::80]:53/udp'     the arrow needs quotes
  fairlead explain default/web-1 192.0.2.2:30080
  fairlead explain 192.0.2.2:8080`

/** `FROM TO`, `FROM -> TO` in one word or three, or `TO`. */
function parseWay(words: readonly string[]): { from: string | undefined; text: string } {
  const [first = '', second, ...rest] = words
    .flatMap((word) => word.trim().split(/\s+/))
    .filter((word) => word !== '->')
  if (rest.length > 0) {
    throw new UsageError(`${words.join(' ')}: expected [FROM ->] HOST:PORT, like 10.88.0.5 10.96.0.80:80`, {
      exitCode: 2,
    })
  }
  return second === undefined ? { from: undefined, text: first } : { from: first, text: second }
}

function parseDestination(text: string): TransportAddress {
  try {
    return parseTransportAddress(text)
  } catch (error) {
    if (!(error instanceof ParseError)) throw error
    throw new UsageError(error.message, { exitCode: 2, cause: error })
  }
}

const outcomes = {
  endpoints: 'reaches an endpoint',
  refused: 'is refused',
  dropped: 'is dropped',
  host: 'goes to the host itself: no Service and no pod has this port',
  elsewhere: 'is not for this host',
} as const satisfies Record<Explanation['outcome'], string>

/** The explanation for people. */
export function formatExplanation({ to, from, outcome, steps, obstacles }: Explanation): string {
  const width = Math.max(...steps.map(({ where }) => where.length))
  return [
    `a new connection from ${from === 'node' ? 'the node itself' : 'outside'} to ${to} ${outcomes[outcome]}`,
    ...steps.map(({ where, what }) => `  ${where.padEnd(width)}  ${what}`),
    ...obstacles.map((obstacle) => `  ! may be stopped by ${obstacle}`),
  ].join('\n')
}
