import { type ClusterZone } from './cluster-zone.ts'
import type { Upstreams } from '../dns-forward/forward.ts'
import { isAtOrBelow, type NameKey } from '../dns-message/name.ts'
import { answerNetworkName, type NetworkNames } from './network-names.ts'
import type { Query, Question } from '../dns-message/query.ts'
import {
  type Answer,
  emptyAnswer,
  extendedErrors,
  rcodes,
  recordClasses,
  type RecordSet,
  recordTypes,
  textSet,
} from '../dns-message/record-set.ts'

export interface ResolveContext {
  /** The address that the query came from, as a socket says it. */
  readonly client: string
  readonly zone: ClusterZone
  readonly forwarder: Upstreams
  /** Undefined: no client has names of its own. */
  readonly names: NetworkNames | undefined
  /** Seconds since the source of the cluster's objects was last heard, while it is lost; undefined: it is not, or nobody knows. */
  readonly lostFor?: (() => number | undefined) | undefined
  /** What `version.bind` and `version.server` say (class CH); REFUSED when undefined. */
  readonly version: string | undefined
}

/** Aliases followed within the zone, as in CoreDNS. */
const maxChain = 10

/** Answers a query: at once when we know, later when others have to be asked. */
export function resolveQuery(query: Query, context: ResolveContext): Answer | Promise<Answer> {
  const { question } = query
  // RFC 6891 section 6.1.3: a version that we do not know.
  if (query.edns && query.edns.version > 0) return emptyAnswer(rcodes.BADVERS)
  if (question.class === recordClasses.CH) return answerChaos(question, context.version)
  if (question.class !== recordClasses.IN && question.class !== recordClasses.ANY) return emptyAnswer(rcodes.REFUSED)
  const result = context.zone.answer(question.name, question.type)
  switch (result.kind) {
    case 'answer':
      // Only who speaks EDNS can be told.
      return query.edns ? withAge(result.answer, context) : result.answer
    case 'alias':
      return followAlias(query, context)
    case 'foreign':
      // A transfer is between the servers of a zone, not for us to ask for.
      if (question.type === recordTypes.AXFR || question.type === recordTypes.IXFR) return emptyAnswer(rcodes.REFUSED)
      return resolveForeign(question, query, context)
    default:
      return result satisfies never
  }
}

const aliasLoop = emptyAnswer(rcodes.SERVFAIL, {
  code: extendedErrors.OTHER,
  text: `ExternalName Services lead in a circle, or over more than ${maxChain} names`,
})

const forwardingLoop = emptyAnswer(rcodes.REFUSED, {
  code: extendedErrors.OTHER,
  text: 'an upstream resolver asks us for what we asked it',
})

/** The last known state is served for ever, but it says so (RFC 8914). */
function withAge(answer: Answer, { lostFor }: ResolveContext): Answer {
  const seconds = answer.extendedError ? undefined : lostFor?.()
  if (seconds === undefined) return answer
  const { STALE_ANSWER, STALE_NXDOMAIN_ANSWER } = extendedErrors
  const code = answer.rcode === rcodes.NXDOMAIN ? STALE_NXDOMAIN_ANSWER : STALE_ANSWER
  return { ...answer, extendedError: { code, text: `the cluster was last heard ${Math.round(seconds)} s ago` } }
}

/** Follows CNAMEs: within the zone here, from the first foreign name on through the upstream. */
async function followAlias(query: Query, context: ResolveContext): Promise<Answer> {
  const chain: RecordSet[] = []
  const seen = new Set<NameKey>()
  const { type } = query.question
  for (let { name } = query.question; ;) {
    const result = context.zone.answer(name, type)
    if (result.kind === 'answer') return withChain(chain, result.answer)
    if (result.kind === 'foreign')
      return withChain(chain, await resolveForeign({ name, type, class: recordClasses.IN }, query, context))
    chain.push(result.cname)
    seen.add(name.key)
    if (seen.has(result.target.key) || chain.length > maxChain) return aliasLoop
    name = result.target
  }
}

/** RFC 6604: the response code is that of the last name; RFC 1034 section 4.3.2: AA speaks about the first. */
function withChain(chain: readonly RecordSet[], last: Answer): Answer {
  if (last.rcode !== rcodes.NOERROR && last.rcode !== rcodes.NXDOMAIN)
    return { ...emptyAnswer(last.rcode, last.extendedError), from: 'kubernetes' }
  return { ...last, from: 'kubernetes', authoritative: true, authenticData: false, answer: [...chain, ...last.answer] }
}

/** Names that are not the cluster's: of the client's own networks, or of the world. */
function resolveForeign(question: Question, query: Query, context: ResolveContext): Answer | Promise<Answer> {
  const { names, client, forwarder } = context
  const own = names && answerNetworkName(question, client, names)
  if (own) return own
  if (forwarder.isReturning(question.name)) return forwardingLoop
  const answer = forwarder.forward(question, {
    dnssecOk: query.edns?.dnssecOk ?? false,
    checkingDisabled: query.checkingDisabled,
  })
  return answer instanceof Promise
    ? answer.then((answer) => comeHome(answer, question, context))
    : comeHome(answer, question, context)
}

/**
 * An alias of the world may lead into the cluster (`shop.corp.example` to a Service). What it leads to only we know: the
 * resolvers say that it does not exist, or lie.
 */
function comeHome(answer: Answer, question: Question, { zone }: ResolveContext): Answer {
  const chain: RecordSet[] = []
  for (const set of answer.answer) {
    if (set.type !== recordTypes.CNAME || question.type === recordTypes.CNAME) continue
    chain.push(set)
    const target = set.rdata[0]?.[0]
    if (!target || target instanceof Uint8Array || !isAtOrBelow(target.key, zone.name.key)) continue
    const result = zone.answer(target, question.type)
    // From here to an ExternalName and out again is a way that nobody needs, and circles are made of.
    if (result.kind !== 'answer') return aliasLoop
    return { ...withChain(chain, result.answer), authoritative: false }
  }
  return answer
}

const versionNames: ReadonlySet<NameKey> = new Set(['\x07version\x04bind\0', '\x07version\x06server\0'])

function answerChaos({ name, type }: Question, version: string | undefined): Answer {
  if (version === undefined || !versionNames.has(name.key)) return emptyAnswer(rcodes.REFUSED)
  if (type !== recordTypes.TXT && type !== recordTypes.ANY) return emptyAnswer(rcodes.NOERROR)
  const set = textSet(recordTypes.TXT, [version], { owner: name, ttl: 0, class: recordClasses.CH })
  return { ...emptyAnswer(rcodes.NOERROR), answer: [set], from: 'chaos' }
}
