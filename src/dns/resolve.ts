import type { ClusterZone } from './cluster-zone.ts'
import type { Snapshot } from '../model/snapshot.ts'
import type { Upstreams } from '../dns-forward/forward.ts'
import { isAtOrBelow, type Name, type NameKey } from '../dns-message/name.ts'
import { answerNetworkName, type NetworkNames } from './network-names.ts'
import type { Query, Question } from '../dns-message/query.ts'
import {
  type Answer,
  emptyAnswer,
  extendedErrors,
  nameSet,
  rcodes,
  recordClasses,
  type RecordSet,
  recordTypes,
  textSet,
} from '../dns-message/record-set.ts'

/** Something that may know a name before the cluster is asked: entries of a hosts file, say. */
export interface NameStage {
  /** Undefined: not mine, ask the next. `client`: the address of the one who asks, as a socket says it. */
  answer(question: Question, client: string): Answer | undefined
  /** Whether it may ever answer a name of a zone. Absent: it may, so nothing about that zone can be answered without asking it. */
  touches?(zone: NameKey): boolean
  /** Takes the newest snapshot. */
  update?(snapshot: Snapshot): void
}

/** A question as others know it, and what their answer means to the one who asked. */
export interface RewrittenQuestion {
  readonly question: Question
  restore(answer: Answer): Answer
}

/** Changes questions before anybody is asked; undefined: this one stays as it is. */
export interface QuestionRewriter {
  rewrite(question: Question): RewrittenQuestion | undefined
}

/** The other names that a question stands for, when the one who asks would ask them next himself. */
export interface SearchPaths {
  /** In the order in which they are to be tried; empty: only what was asked. */
  candidates(question: Question, client: string): readonly SearchCandidate[]
}

/** One name of a search path. */
export interface SearchCandidate {
  readonly name: Name
  /** Whether it may be asked of other resolvers, too. */
  readonly abroad: boolean
}

export interface ResolveContext {
  /** The address that the query came from, as a socket says it. */
  readonly client: string
  /** Undefined: a server that knows no cluster. */
  readonly zone: Pick<ClusterZone, 'name' | 'answer'> | undefined
  /** Undefined: names that are not ours are REFUSED. */
  readonly forwarder: Upstreams | undefined
  /** Undefined: no client has names of its own. */
  readonly names: NetworkNames | undefined
  /** Asked in order, before the cluster. */
  readonly stages?: readonly NameStage[] | undefined
  readonly rewriter?: QuestionRewriter | undefined
  readonly search?: SearchPaths | undefined
  /** Names that are nobody's here: REFUSED, and not forwarded. */
  readonly refuses?: ((key: NameKey) => boolean) | undefined
  /** Denials of the cluster that do not count: others are asked (CoreDNS's `fallthrough`). */
  readonly passesOn?: ((key: NameKey) => boolean) | undefined
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
  const rewritten = context.rewriter?.rewrite(question)
  if (!rewritten) return resolveName(question, query, context)
  return after(resolveName(rewritten.question, query, context), (answer) => rewritten.restore(answer))
}

function resolveName(question: Question, query: Query, context: ResolveContext): Answer | Promise<Answer> {
  for (const stage of context.stages ?? []) {
    const answer = stage.answer(question, context.client)
    if (answer) return followHome(answer, question, { query, context })
  }
  const result = context.zone?.answer(question.name, question.type) ?? foreign
  switch (result.kind) {
    case 'answer': {
      const isDenial = result.answer.rcode === rcodes.NXDOMAIN
      if (isDenial && context.passesOn?.(question.name.key)) return resolveForeign(question, query, context)
      // Only who speaks EDNS can be told.
      const answer = query.edns ? withAge(result.answer, context) : result.answer
      const candidates = isDenial ? context.search?.candidates(question, context.client) : undefined
      return candidates && candidates.length > 0
        ? searchFurther(candidates, { question, query, context, denial: answer })
        : answer
    }
    case 'alias':
      return followAlias(question, query, context)
    case 'foreign':
      return resolveForeign(question, query, context)
    default:
      return result satisfies never
  }
}

const foreign = { kind: 'foreign' } as const

/** What an alias of a stage leads to, for those who did not ask for the alias itself; no stage is asked again, so there are no circles. */
function followHome(
  answer: Answer,
  question: Question,
  { query, context }: { readonly query: Query; readonly context: ResolveContext },
): Answer | Promise<Answer> {
  const alias = answer.answer.at(-1)
  const target = alias?.rdata[0]?.[0]
  if (alias?.type !== recordTypes.CNAME || question.type === recordTypes.CNAME) return answer
  if (!target || target instanceof Uint8Array) return answer
  const rest = resolveName({ ...question, name: target }, query, { ...context, stages: [], search: undefined })
  return after(rest, (last) => ({ ...withChain(answer.answer, last), ...(answer.from && { from: answer.from }) }))
}

/**
 * Walks the search path of the one who asks, as he would do himself with one question after the other. The first name that exists counts: the answer
 * is an alias to it. A failure on the way ends the walk with the denial that he would have got, so that nothing is
 * believed that is not so.
 */
async function searchFurther(
  candidates: readonly SearchCandidate[],
  asked: {
    readonly question: Question
    readonly query: Query
    readonly context: ResolveContext
    readonly denial: Answer
  },
): Promise<Answer> {
  const { question, query, context, denial } = asked
  // None of these leads to another walk.
  const once = { ...context, search: undefined }
  for (const { name, abroad } of candidates) {
    const isHome = context.zone !== undefined && isAtOrBelow(name.key, context.zone.name.key)
    const resolved = { ...question, name }
    const answer =
      isHome || abroad
        ? await resolveName(resolved, query, once)
        : context.names && answerNetworkName(resolved, context.client, context.names)
    if (!answer || answer.rcode === rcodes.NXDOMAIN) continue
    if (answer.rcode !== rcodes.NOERROR) return denial
    // The asked name may come to exist at any moment, as any other of the cluster: the alias lives no longer than its denial.
    const ttl = denial.authority[0]?.ttl ?? 0
    const alias = nameSet(recordTypes.CNAME, [name], { owner: question.name, ttl })
    // Other servers are asked in random case (0x20), and answer in it.
    const sets = answer.answer.map((set) => (set.owner.key === name.key ? { ...set, owner: name } : set))
    return { ...answer, authoritative: true, authenticData: false, answer: [alias, ...sets], from: 'autopath' }
  }
  return denial
}

const aliasLoop = emptyAnswer(rcodes.SERVFAIL, {
  code: extendedErrors.OTHER,
  text: `ExternalName Services lead in a circle, or over more than ${maxChain} names`,
})

const forwardingLoop = emptyAnswer(rcodes.REFUSED, {
  code: extendedErrors.OTHER,
  text: 'an upstream resolver asks us for what we asked it',
})

const notOurs = emptyAnswer(rcodes.REFUSED, {
  code: extendedErrors.PROHIBITED,
  text: 'names outside of our zones are not looked up here',
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
async function followAlias(question: Question, query: Query, context: ResolveContext): Promise<Answer> {
  const chain: RecordSet[] = []
  const seen = new Set<NameKey>()
  const { type } = question
  for (let { name } = question; ;) {
    const result = context.zone?.answer(name, type) ?? foreign
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
  // A transfer is between the servers of a zone, not for us to ask for.
  if (question.type === recordTypes.AXFR || question.type === recordTypes.IXFR) return emptyAnswer(rcodes.REFUSED)
  const { names, client, forwarder } = context
  const own = names && answerNetworkName(question, client, names)
  if (own) return own
  if (!forwarder || context.refuses?.(question.name.key)) return notOurs
  if (forwarder.isReturning(question.name)) return forwardingLoop
  const answer = forwarder.forward(question, {
    dnssecOk: query.edns?.dnssecOk ?? false,
    checkingDisabled: query.checkingDisabled,
  })
  return after(answer, (answer) => comeHome(answer, question, context))
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
    if (!zone || !target || target instanceof Uint8Array || !isAtOrBelow(target.key, zone.name.key)) continue
    const result = zone.answer(target, question.type)
    // From here to an ExternalName and out again is a way that nobody needs, and circles are made of.
    if (result.kind !== 'answer') return aliasLoop
    return { ...withChain(chain, result.answer), authoritative: false }
  }
  return answer
}

function after(answer: Answer | Promise<Answer>, change: (answer: Answer) => Answer): Answer | Promise<Answer> {
  return answer instanceof Promise ? answer.then(change) : change(answer)
}

const versionNames: ReadonlySet<NameKey> = new Set(['\x07version\x04bind\0', '\x07version\x06server\0'])

function answerChaos({ name, type }: Question, version: string | undefined): Answer {
  if (version === undefined || !versionNames.has(name.key)) return emptyAnswer(rcodes.REFUSED)
  if (type !== recordTypes.TXT && type !== recordTypes.ANY) return emptyAnswer(rcodes.NOERROR)
  const set = textSet(recordTypes.TXT, [version], { owner: name, ttl: 0, class: recordClasses.CH })
  return { ...emptyAnswer(rcodes.NOERROR), answer: [set], from: 'chaos' }
}
