import type { Log } from '../base/log.ts'
import type { Cookies } from './cookies.ts'
import { encodeCookieResponse, encodeError, encodeResponse } from '../dns-message/encode-response.ts'
import { nameText } from '../dns-message/name.ts'
import { type Edns, parseRequest } from '../dns-message/query.ts'
import { type Answer, rcodes } from '../dns-message/record-set.ts'
import { type ResolveContext, resolveQuery } from './resolve.ts'
import type { Client } from './udp-listener.ts'

/** Counts since the start; plain numbers, for a metrics endpoint to read. */
export interface DnsStats {
  /** Messages that were understood as a query. */
  queries: number
  /** Responses sent, by the name of their response code (`NOERROR`, `NXDOMAIN`, ...). */
  readonly answers: Record<string, number>
  /** Messages that were not answered: shorter than a header, or themselves responses. */
  dropped: number
  /** Queries that ended in an error of ours. */
  errors: number
}

export function newDnsStats(): DnsStats {
  return { queries: 0, answers: {}, dropped: 0, errors: 0 }
}

export interface RespondOptions extends Omit<ResolveContext, 'client'> {
  readonly stats: DnsStats
  readonly log: Log
  /** Undefined: cookies are ignored. */
  readonly cookies?: Cookies
}

/**
 * Bytes of a request in, bytes of the response out; knows nothing of sockets. The client's `send` is called at most once, before
 * this returns when the cluster knows the answer; false means that it will never be called. Never throws: whatever is
 * wrong with one message is its own matter.
 */
export function respond(
  message: Uint8Array,
  transport: 'udp' | 'tcp',
  { client, options }: { readonly client: Client; readonly options: RespondOptions },
): boolean {
  const { stats } = options
  const request = parseRequest(message)
  if (request.kind === 'drop') {
    stats.dropped++
    return false
  }
  if (request.kind === 'error') {
    countRcode(stats, request.rcode)
    client.send(encodeError(request.id, request.flags, request.rcode))
    return true
  }
  const cookieFor = (edns: Edns | undefined) =>
    edns?.clientCookie && options.cookies?.serverCookie(edns.clientCookie, client.address)
  if (request.kind === 'cookie') {
    const cookie = cookieFor(request.edns)
    const rcode = cookie ? rcodes.NOERROR : rcodes.FORMERR
    countRcode(stats, rcode)
    client.send(cookie ? encodeCookieResponse(request, cookie) : encodeError(request.id, request.flags, rcode))
    return true
  }
  const { query } = request
  stats.queries++
  const finish = (answer: Answer) => {
    const response = encodeResponse(query, answer, {
      transport,
      recursionAvailable: true,
      rotation: stats.queries,
      serverCookie: cookieFor(query.edns),
    })
    countRcode(stats, answer.rcode)
    client.send(response)
  }
  const fail = (error: unknown) => {
    stats.errors++
    const fields = { error, name: nameText(query.question.name), type: query.question.type }
    options.log.error(fields, 'A DNS query could not be answered')
    countRcode(stats, rcodes.SERVFAIL)
    client.send(encodeError(query.id, 0, rcodes.SERVFAIL))
  }
  try {
    const answer = resolveQuery(query, { ...options, client: client.address })
    if (answer instanceof Promise) answer.then(finish).catch(fail)
    else finish(answer)
  } catch (error) {
    fail(error)
  }
  return true
}

const rcodeNames = new Map<number, string>(Object.entries(rcodes).map(([name, code]) => [code, name]))

function countRcode(stats: DnsStats, rcode: number): void {
  const name = rcodeNames.get(rcode) ?? `RCODE${rcode}`
  stats.answers[name] = (stats.answers[name] ?? 0) + 1
}
