import { Command } from 'commander'
import type { DnsExplanationView, DnsQuestionView } from '../daemon/dns-control-api.ts'
import { callDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'

interface ExplainOptions {
  readonly socket: string
  readonly from?: string
  readonly type: string
  readonly json?: boolean
}

/** `fairlead dns explain`: exits 0 when the name is found, 1 otherwise. */
export function dnsExplainCommand(): Command {
  return new Command('explain')
    .description('what a client gets for a name, question by question: who answers, from which object, and why not')
    .argument('<name>', 'as a program would have it; with a dot at its end no search path is walked')
    .option('--from <pod>', 'the client: NAMESPACE/NAME, NAME, an address, or node', 'node')
    .option('--type <type>', 'A, AAAA, SRV, ...', 'A')
    .option('--json', 'print as JSON')
    .addOption(socketOption())
    .addHelpText('after', explainHelp)
    .action(async (name: string, options: ExplainOptions) => {
      const query = new URLSearchParams({ name, type: options.type, from: options.from ?? 'node' })
      const view = await callDaemon<DnsExplanationView>(options.socket, 'GET', `/dns/explain?${query.toString()}`)
      console.log(options.json ? JSON.stringify(view) : formatDnsExplanation(view))
      process.exitCode = view.outcome === 'found' ? 0 : 1
    })
}

const outcomes = {
  found: 'is found',
  'no-records': 'exists, but has no such records',
  'no-such-name': 'does not exist',
  failed: 'cannot be looked up at the moment',
} as const satisfies Record<DnsExplanationView['outcome'], string>

/** The explanation for people. */
export function formatDnsExplanation(view: DnsExplanationView): string {
  const { name, type, from, client, search, questions, outcome, data } = view
  const who = from === undefined || from === 'node' ? 'the node' : from === client ? client : `${from} (${client})`
  const path =
    search.length > 0 ? `search path: ${search.join(' ')} (ndots:5)` : 'no search path: the name is asked as it is'
  return [
    `${name} ${type} from ${who}: ${outcomes[outcome]}, after ${questions.length} ${questions.length === 1 ? 'question' : 'questions'}`,
    `  ${path}`,
    ...questions.flatMap((question, index) => formatQuestion(question, index + 1)),
    `  data of the cluster: ${data}`,
  ].join('\n')
}

function formatQuestion(question: DnsQuestionView, number: number): string[] {
  const { name, rcode, by, via, ageSeconds, records, object, why, error } = question
  const source = [
    answeredBy[by] ?? by,
    ...(via === undefined ? [] : [`resolver ${via}`]),
    ...(ageSeconds === undefined ? [] : [`remembered for ${ageSeconds} s`]),
  ].join(', ')
  return [
    `  ${number}. ${name}  ${rcode}  (${source})`,
    ...records.map((record) => `       ${record}`),
    ...(object === undefined ? [] : [`     ${object}`]),
    ...why.map((sentence) => `     - ${sentence}`),
    ...(error === undefined ? [] : [`     ! extended error ${error}`]),
  ]
}

/** CoreDNS's words, which metrics have too, in words for people. */
const answeredBy: Readonly<Record<string, string>> = {
  '': 'the server itself',
  kubernetes: 'the cluster',
  cache: 'remembered',
  forward: 'forwarded',
  hosts: 'a hosts entry',
  k8s_external: 'an outside address of a Service',
  autopath: 'the search path, walked here',
  pods: 'short names of pods',
}

const explainHelp = `
A pod with ndots:5 asks its search path first: "api.example.com" is up to four questions per address family. The explanation shows each of them in
order, which object stands behind it, and for a name that does not exist what was perhaps meant. Questions are asked as the client would
ask them, short names of pods and hosts entries included; nothing is sent into the pod ("dns query --from" does that).

  fairlead dns explain web --from shop/web-1
  fairlead dns explain api.example.com --from shop/web-1
  fairlead dns explain db-0.db.data.svc.cluster.local. --type AAAA
  fairlead dns explain web.shop --from 10.88.0.7 --json`
