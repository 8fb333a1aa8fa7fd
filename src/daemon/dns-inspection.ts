import { isIP } from 'node:net'
import type { QueryFeed } from '../dns/query-feed.ts'
import { type LoggedQuery, parseClients, parseRcode, QueryLog, readQueryFilter } from '../dns/query-log.ts'
import { rcodeName } from '../dns/dns-counts.ts'
import { explainName } from '../dns/explain-name.ts'
import type { DnsServer } from '../dns/server.ts'
import { nameText, parseName } from '../dns-message/name.ts'
import { printRecords } from '../dns-message/print-records.ts'
import type { Query } from '../dns-message/query.ts'
import { type Answer, rcodes, recordClasses } from '../dns-message/record-set.ts'
import { parseType, typeName } from '../dns-message/type-names.ts'
import type { Snapshot } from '../model/snapshot.ts'
import { ParseError } from '../net/parse-error.ts'
import type { DnsConfig } from './dns-config.ts'
import type { DnsExplanationView, DnsQuestionView, DnsTopView } from './dns-control-api.ts'
import type { DnsTop } from './dns-top.ts'
import { HttpError, type Routes } from './http-server.ts'

/** What {@link DnsInspection} looks at. */
export interface InspectedDns {
  readonly config: DnsConfig
  readonly server: DnsServer
  readonly feed: QueryFeed
  readonly top: DnsTop
  /** Where the objects come from. */
  readonly sources: { readonly current: Snapshot; readonly synced: boolean }
}

/** ndots of the resolv.conf of pods (kubelet's, and ours). */
const podNdots = 5
/** Where the node's own questions come from. */
const nodeAddress = '127.0.0.1'

/** What `fairlead dns` asks the daemon. Refuses, with reason, until {@link serve} was called. */
export class DnsInspection {
  #dns: InspectedDns | undefined
  #refusal = 'the daemon is starting'

  /** Undefined: the configuration has no DNS. */
  serve(dns: InspectedDns | undefined): void {
    this.#dns = dns
    this.#refusal = 'there is no cluster DNS: dns.enabled is false in the configuration'
  }

  /** The routes of the control socket; see dns-control-api.ts. */
  routes(): Routes {
    return {
      'GET /dns/top': ({ query }) => ({ json: this.top(Number(query.get('limit') ?? 10)) }),
      'GET /dns/explain': async ({ query }) => ({ json: await this.explain(query) }),
      'GET /dns/log': ({ query }) => {
        const tap = (write: (line: LoggedQuery) => void) => this.log(query, write)
        // What is wrong with the filters is said before the stream begins.
        const start = parsing(() => tap)
        parsing(() => filterOf(query))
        return {
          stream(response) {
            response.writeHead(200, { 'content-type': 'application/x-ndjson' })
            response.flushHeaders()
            const stop = start((line) => {
              // A reader that is too slow misses lines; the server does not wait for it.
              if (!response.writableNeedDrain) response.write(`${JSON.stringify(line)}\n`)
            })
            response.on('close', stop)
          },
        }
      },
    }
  }

  top(limit: number): DnsTopView {
    const { top, sources } = this.#running()
    if (!Number.isInteger(limit) || limit < 1 || limit > 256)
      throw new HttpError(400, `limit ${limit} is not from 1 to 256`)
    const pods = new Map(
      [...sources.current.pods.values()].flatMap((pod) => pod.podIPs.map((ip) => [ip as string, pod] as const)),
    )
    return top.view(limit, (client) => {
      const pod = pods.get(client)
      return pod && `${pod.namespace}/${pod.name}`
    })
  }

  /** Calls `write` for each query that fits until the returned function is called. */
  log(query: URLSearchParams, write: (line: LoggedQuery) => void): () => void {
    const { feed } = this.#running()
    const tap = new QueryLog({ ...filterOf(query), oneIn: Number(query.get('oneIn') ?? 1), write })
    return feed.add({ every: 1, seen: (seen) => tap.seen(seen) })
  }

  /** Asks as the client would, and says of each question who answered and why. Throws {@link HttpError}. */
  async explain(query: URLSearchParams): Promise<DnsExplanationView> {
    const dns = this.#running()
    const text = query.get('name') ?? ''
    const from = query.get('from') ?? undefined
    const type = parsing(() => parseType(query.get('type') ?? 'A'))
    if (text === '') throw new HttpError(400, 'the name is empty (expected like web.shop, or . for the root)')
    parsing(() => parseName(text))
    const { client, search } = whoAsks(from, dns)
    const questions: DnsQuestionView[] = []
    let outcome: DnsExplanationView['outcome'] = 'no-such-name'
    for (const candidate of candidates(text, search)) {
      const view = await ask(candidate, { type, client, dns })
      questions.push(view)
      outcome = outcomeOf(view)
      // The C library goes on over denials, and over answers without records.
      if (outcome === 'found' || outcome === 'failed') break
    }
    // An existing name without such records somewhere on the way is what is said in the end.
    if (outcome === 'no-such-name' && questions.some((view) => outcomeOf(view) === 'no-records')) outcome = 'no-records'
    return { name: text, type: typeName(type), from, client, search, outcome, questions, data: describeData(dns) }
  }

  #running(): InspectedDns {
    if (!this.#dns) throw new HttpError(409, this.#refusal)
    return this.#dns
  }
}

function parsing<T>(parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (error instanceof ParseError) throw new HttpError(400, error.message, { cause: error })
    throw error
  }
}

function filterOf(query: URLSearchParams) {
  const oneIn = Number(query.get('oneIn') ?? 1)
  if (!Number.isInteger(oneIn) || oneIn < 1) throw new ParseError(`oneIn ${oneIn} is not a number from 1`)
  return readQueryFilter({
    clients: query.getAll('client').map(parseClients),
    names: query.getAll('name').map(parseName),
    types: query.getAll('type').map(parseType),
    rcodes: query.getAll('rcode').map(parseRcode),
  })
}

/** An address and the search path that goes with it. */
function whoAsks(
  from: string | undefined,
  { sources, config }: InspectedDns,
): { client: string; search: readonly string[] } {
  if (from === undefined || from === 'node') return { client: nodeAddress, search: [] }
  const pods = [...sources.current.pods.values()]
  const pod =
    isIP(from) === 0
      ? pods.find(({ namespace, name }) => `${namespace}/${name}` === (from.includes('/') ? from : `default/${from}`))
      : pods.find(({ podIPs }) => podIPs.some((ip) => ip === from))
  if (!pod && isIP(from) !== 0) return { client: from, search: [] }
  if (!pod) throw new HttpError(404, `there is no pod "${from}" (expected NAMESPACE/NAME, an address, or node)`)
  const { zone } = config
  return { client: pod.podIPs[0] ?? nodeAddress, search: [`${pod.namespace}.svc.${zone}`, `svc.${zone}`, zone] }
}

/** resolv.conf(5): with fewer dots than ndots the search path comes first, a last dot means no search. */
function candidates(text: string, search: readonly string[]): readonly string[] {
  if (text.endsWith('.') || search.length === 0) return [text.endsWith('.') ? text : `${text}.`]
  const searched = search.map((domain) => `${text}.${domain}.`)
  const dots = text.split('.').length - 1
  return dots < podNdots ? [...searched, `${text}.`] : [`${text}.`, ...searched]
}

async function ask(
  text: string,
  { type, client, dns }: { readonly type: number; readonly client: string; readonly dns: InspectedDns },
): Promise<DnsQuestionView> {
  const { server, config, sources } = dns
  const name = parsing(() => parseName(text))
  const query: Query = {
    id: 0,
    recursionDesired: true,
    checkingDisabled: false,
    authenticData: false,
    question: { name, type, class: recordClasses.IN },
    edns: { udpSize: 1232, version: 0, dnssecOk: false },
  }
  const answer: Answer = await server.resolver.resolve(query, client)
  const explained = explainName(name, sources.current, { zone: parseName(config.zone), pods: config.pods })
  const { extendedError } = answer
  return {
    name: nameText(name),
    rcode: rcodeName(answer.rcode),
    by: answer.from ?? '',
    via: answer.via,
    ageSeconds: answer.age,
    records: printRecords(answer.answer),
    object: explained?.object,
    why: explained?.why ?? [],
    error: extendedError && `${extendedError.code}: ${extendedError.text}`,
  }
}

function outcomeOf({ rcode, records }: DnsQuestionView): DnsExplanationView['outcome'] {
  if (rcode === rcodeName(rcodes.NXDOMAIN)) return 'no-such-name'
  if (rcode !== rcodeName(rcodes.NOERROR)) return 'failed'
  return records.length > 0 ? 'found' : 'no-records'
}

function describeData({ sources, server }: InspectedDns): string {
  if (!sources.synced) return 'the first complete list of the cluster has not arrived yet: unknown names are SERVFAIL'
  const seconds = server.resolver.options.lostFor?.()
  return seconds === undefined
    ? 'current: every change that was heard is answered'
    : `the API server was last heard ${Math.round(seconds)} s ago: this is the last known state`
}
