import type { Log } from '../base/log.ts'
import type { Cookies } from './cookies.ts'
import { answererPlace, type DnsCounts } from './dns-counts.ts'
import { encodeCookieResponse, encodeError, encodeResponse } from '../dns-message/encode-response.ts'
import { type NameKey, nameText } from '../dns-message/name.ts'
import { type Edns, parseRequest } from '../dns-message/query.ts'
import { type Answer, emptyAnswer, rcodes } from '../dns-message/record-set.ts'
import type { Resolver } from './resolver.ts'
import type { SeenQuery } from './seen-query.ts'
import type { Client } from './udp-listener.ts'

/** What a {@link Resolver} is to those who write responses. */
export type CountedResolver = Pick<Resolver, 'resolve' | 'counts'>

export interface RespondOptions {
  /** Who answers questions about a name; undefined: nobody here does, so they are REFUSED. */
  readonly resolverOf: (name: NameKey) => CountedResolver | undefined
  /** What is counted of messages that are nobody's question. */
  readonly counts: DnsCounts
  readonly log: Log
  /** Counted up from response to response: clients spread over the records. */
  readonly rotation: { next: number }
  /** Told of each query that was answered, after the answer is on its way. Must be quick. */
  readonly seen?: ((query: SeenQuery) => void) | undefined
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
  const { counts } = options
  const began = performance.now()
  const tcp = transport === 'tcp'
  const request = parseRequest(message)
  if (request.kind === 'drop') {
    counts.addDropped()
    return false
  }
  const sendMalformed = (response: Buffer, rcode: number) => {
    counts.addMalformed({ tcp, rcode, responseSize: response.length })
    client.send(response)
    return true
  }
  if (request.kind === 'error')
    return sendMalformed(encodeError(request.id, request.flags, request.rcode), request.rcode)
  const cookieFor = (edns: Edns | undefined) =>
    edns?.clientCookie && options.cookies?.serverCookie(edns.clientCookie, client.address)
  if (request.kind === 'cookie') {
    const cookie = cookieFor(request.edns)
    return cookie
      ? sendMalformed(encodeCookieResponse(request, cookie), rcodes.NOERROR)
      : sendMalformed(encodeError(request.id, request.flags, rcodes.FORMERR), rcodes.FORMERR)
  }
  const { query } = request
  const { question } = query
  const resolver = options.resolverOf(question.name.key)
  const send = (response: Buffer, { rcode, from }: Pick<Answer, 'rcode' | 'from'>) => {
    const seconds = (performance.now() - began) / 1000
    const asked = resolver?.counts ?? counts
    asked.add({
      tcp,
      ipv6: client.address.includes(':'),
      type: question.type,
      requestSize: message.length,
      dnssecOk: query.edns?.dnssecOk ?? false,
      rcode,
      answerer: answererPlace(from),
      responseSize: response.length,
      seconds,
    })
    client.send(response)
    options.seen?.({
      client: client.address,
      name: question.name,
      type: question.type,
      rcode,
      from: from ?? '',
      tcp,
      seconds,
    })
  }
  const finish = (answer: Answer) => {
    options.rotation.next++
    const response = encodeResponse(query, answer, {
      transport,
      recursionAvailable: true,
      rotation: options.rotation.next,
      serverCookie: cookieFor(query.edns),
    })
    send(response, answer)
  }
  const fail = (error: unknown) => {
    const asked = resolver?.counts ?? counts
    asked.addError()
    const fields = { error, name: nameText(question.name), type: question.type }
    options.log.error(fields, 'A DNS query could not be answered')
    send(encodeError(query.id, 0, rcodes.SERVFAIL), { rcode: rcodes.SERVFAIL })
  }
  try {
    const answer = resolver ? resolver.resolve(query, client.address) : emptyAnswer(rcodes.REFUSED)
    if (answer instanceof Promise) answer.then(finish).catch(fail)
    else finish(answer)
  } catch (error) {
    fail(error)
  }
  return true
}
