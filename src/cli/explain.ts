import { Command } from 'commander'
import type { NetworkSummaryView, PodView } from '../daemon/control-api.ts'
import { explainPacket, type Destination, type Explanation } from '../daemon/explain.ts'
import { readExplainFacts } from '../daemon/read-explain-facts.ts'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { parseProtocol } from '../net/protocol.ts'
import { callDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'
import { UsageError } from './usage-error.ts'

/** `fairlead explain HOST:PORT`: exits 0 when the packet reaches an endpoint or the host, 1 when we refuse it. */
export function explainCommand(): Command {
  return new Command('explain')
    .description('the way of a new connection to a published port, a node port or a Service, step by step')
    .argument('<host:port>', 'an IP address and a port: 192.0.2.2:8080, [2001:db8::2]:53/udp')
    .addOption(socketOption())
    .option('--json', 'print as JSON')
    .action(async (text: string, options: { socket: string; json?: boolean }) => {
      const to = parseDestination(text)
      const { networks } = await callDaemon<{ networks: NetworkSummaryView[] }>(options.socket, 'GET', '/networks')
      const { pods } = await callDaemon<{ pods: PodView[] }>(options.socket, 'GET', '/pods')
      const explanation = explainPacket(to, await readExplainFacts({ networks, pods }))
      console.log(options.json ? JSON.stringify(explanation) : formatExplanation(explanation))
      process.exitCode = explanation.outcome === 'refused' || explanation.outcome === 'dropped' ? 1 : 0
    })
}

function parseDestination(text: string): Destination {
  const [, bracketed, plain, port, protocol = 'tcp'] =
    /^(?:\[([^\]]+)\]|([^:]+)):(\d+)(?:\/(tcp|udp|sctp))?$/.exec(text) ?? []
  try {
    return {
      ip: parseIp(bracketed ?? plain ?? ''),
      port: parsePort(Number(port)),
      protocol: parseProtocol(protocol),
    }
  } catch (error) {
    const expected = 'expected an IP address and a port, like 192.0.2.2:8080 or [2001:db8::2]:53/udp'
    throw new UsageError(`${text}: ${expected}`, { exitCode: 2, cause: error })
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
