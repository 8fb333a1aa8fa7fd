import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Command } from 'commander'
import type { ExecSpec, StatusView } from '../daemon/control-api.ts'
import { ParseError } from '../net/parse-error.ts'
import { callDaemon } from './control-client.ts'
import { type QueryResult, queryOnce } from './dns-query-client.ts'
import { socketOption } from './socket-option.ts'
import { UsageError } from './usage-error.ts'

interface QueryOptions {
  readonly socket: string
  readonly from?: string
  readonly server?: string
  readonly json?: boolean
}

/** `fairlead dns query`: a question over the wire, from a pod's own network if wanted. Exits 1 unless there is an answer with records. */
export function dnsQueryCommand(): Command {
  return new Command('query')
    .description('ask a question over the wire, from the node or from a pod')
    .argument('<name>', 'the name, as it is: no search path is walked (that is "dns explain")')
    .argument('[type]', 'A, AAAA, SRV, PTR, TXT, ... or TYPE65', 'A')
    .option('--from <pod>', "ask from this pod's network, and the server of its resolv.conf: NAMESPACE/NAME or NAME")
    .option('--server <address>', 'ask this server; default: the cluster DNS, from a pod that of its resolv.conf')
    .option('--json', 'print as JSON')
    .addOption(socketOption())
    .addHelpText('after', queryHelp)
    .action(async (name: string, type: string, options: QueryOptions) => {
      const result = await query(name, type, options)
      console.log(options.json ? JSON.stringify(result) : formatQuery(result))
      process.exitCode = result.answer.length > 0 ? 0 : 1
    })
}

async function query(name: string, type: string, options: QueryOptions): Promise<QueryResult> {
  if (options.from !== undefined) return await queryFromPod(name, type, options)
  try {
    return await queryOnce(name, type, options.server ?? (await clusterDns(options.socket)))
  } catch (error) {
    if (error instanceof ParseError) throw new UsageError(error.message, { exitCode: 2, cause: error })
    throw new UsageError(`no answer: ${(error as Error).message}`, { cause: error })
  }
}

async function clusterDns(socket: string): Promise<string> {
  const { dns } = await callDaemon<StatusView>(socket, 'GET', '/status')
  const [address] = dns?.addresses ?? []
  if (address === undefined) throw new UsageError('the daemon has no cluster DNS; name a server with --server')
  return address
}

/** The question is asked by a process of its own that is put into the pod as "pod exec" would put it. */
async function queryFromPod(
  name: string,
  type: string,
  { from = '', server, socket }: QueryOptions,
): Promise<QueryResult> {
  const [pod = '', namespace = 'default'] = from.split('/').toReversed()
  const path = `/pods/${encodeURIComponent(namespace)}/${encodeURIComponent(pod)}/exec`
  const { argv } = await callDaemon<ExecSpec>(socket, 'GET', path)
  const client = new URL('dns-query-client.ts', import.meta.url).pathname
  const [program = '', ...words] = [
    ...argv,
    process.execPath,
    client,
    name,
    type,
    ...(server === undefined ? [] : [server]),
  ]
  const { stdout } = await promisify(execFile)(program, words)
  const result = JSON.parse(stdout) as QueryResult | { readonly error: string }
  if ('error' in result) throw new UsageError(`from ${from}: ${result.error}`)
  return result
}

function formatQuery({
  server,
  transport,
  rcode,
  authoritative,
  answer,
  authority,
  additional,
  ms,
}: QueryResult): string {
  const section = (title: string, lines: readonly string[]) =>
    lines.length > 0 ? [`${title}:`, ...lines.map((line) => `  ${line}`)] : []
  const none =
    rcode === 'NOERROR' && answer.length === 0 ? ' without records (the name exists, or a name below it does)' : ''
  return [
    `${rcode}${none}${authoritative ? ', authoritative' : ''}, from ${server} over ${transport} in ${ms} ms`,
    ...section('answer', answer),
    ...section('authority', authority),
    ...section('additional', additional),
  ].join('\n')
}

const queryHelp = `
  fairlead dns query web.shop.svc.cluster.local
  fairlead dns query _http._tcp.web.shop.svc.cluster.local SRV
  fairlead dns query db --from shop/web-1        the short name of a pod, as only shop/web-1 may see it
  fairlead dns query 10.4.30.172.in-addr.arpa PTR --server 10.96.0.10`
