import { randomInt } from 'node:crypto'
import { type Clock, systemClock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { encodeRequest } from '../dns-message/encode-request.ts'
import { LoopProbe } from './loop-probe.ts'
import type { Name } from '../dns-message/name.ts'
import type { Question } from '../dns-message/query.ts'
import { randomCase, sameCase } from '../dns-message/random-case.ts'
import {
  type Answer,
  emptyAnswer,
  extendedErrors,
  rcodes,
  recordClasses,
  recordTypes,
} from '../dns-message/record-set.ts'
import { relevantAnswer } from './relevant-answer.ts'
import type { Reply } from '../dns-message/reply.ts'
import { TlsConnections } from './tls-connections.ts'
import type { Upstream } from './upstream.ts'
import { type UpstreamCount, UpstreamCounts } from './upstream-counts.ts'
import { UpstreamHealth } from './upstream-health.ts'
import { UpstreamOutages } from './upstream-outages.ts'
import { exchangeTcp, exchangeUdp } from './upstream-exchange.ts'

export interface ForwarderOptions {
  /** Whom to ask about a name. Read for each question, so that a change counts at once. */
  readonly servers: (name: Name) => readonly Upstream[]
  readonly log: Log
  /** PEM of the authorities that the certificates of DNS over TLS must come from; default: Node's. */
  readonly tlsAuthorities?: string | undefined
  readonly clock?: Clock
  /** Milliseconds until the next server is asked too; default 1500. The earlier ones may still answer. */
  readonly tryNextAfter?: number
  /** Milliseconds until a question is given up; default 5000, what the C library's resolver waits for a server. */
  readonly deadline?: number
  /** Questions in flight; more are REFUSED. Default 1024. */
  readonly maxConcurrent?: number
}

export interface ForwardFlags {
  readonly dnssecOk: boolean
  readonly checkingDisabled: boolean
}

/** Whom to ask for names that are not the cluster's. */
export interface Upstreams {
  forward(question: Question, flags: ForwardFlags): Answer | Promise<Answer>
  /** Whether the question is one of ours on its way back. */
  isReturning(name: Name): boolean
}

/** Requests per question, however few servers there are. */
const maxAttempts = 6
/** How long a server that asks us back is left out; then one question finds out whether it still does. */
const loopingFor = 60_000
/** A probe for loops waits so long, and is not repeated earlier. */
const probeTime = 2000
/** How long a server that does not repeat the case of names is not asked in mixed case. */
const caselessFor = 600_000

/** Asks the node's own resolvers. */
export class Forwarder implements Upstreams {
  readonly #options: ForwarderOptions
  readonly #clock: Clock
  /** RFC 5452 section 5: of equal questions only one is in flight, or a forger gets as many chances as there are. */
  readonly #inFlight = new Map<string, Promise<Answer>>()
  readonly #health: UpstreamHealth
  readonly #loops = new LoopProbe()
  readonly #probedAt = new Map<string, number>()
  readonly #loopingUntil = new Map<string, number>()
  readonly #caselessUntil = new Map<string, number>()
  readonly #tls: TlsConnections
  readonly #stop = new AbortController()
  readonly #upstreams = new UpstreamCounts()
  readonly #outages: UpstreamOutages
  #failures = 0
  #forwarded = 0
  #rejected = 0

  constructor(options: ForwarderOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#tls = new TlsConnections({ log: options.log, ca: options.tlsAuthorities })
    this.#health = new UpstreamHealth({ clock: this.#clock, tryNextAfter: options.tryNextAfter ?? 1500 })
    this.#outages = new UpstreamOutages({ clock: this.#clock, log: options.log })
  }

  /** `rejected`: those of `failures` for which there was no room. */
  get counters(): { readonly forwarded: number; readonly failures: number; readonly rejected: number } {
    return { forwarded: this.#forwarded, failures: this.#failures, rejected: this.#rejected }
  }

  /** What each resolver was asked and answered, by its key. */
  get upstreams(): ReadonlyMap<string, UpstreamCount> {
    return this.#upstreams.view()
  }

  /** Whether a question is ours, sent back by a resolver that asks us: to answer it would feed the loop. */
  isReturning(name: Name): boolean {
    return this.#loops.isReturning(name.key)
  }

  /** Gives up all questions in flight: they become SERVFAIL. */
  stop(): void {
    this.#stop.abort(new Error('the DNS server stops'))
    this.#tls[Symbol.dispose]()
  }

  /** The upstream's answer; SERVFAIL when nobody answers, REFUSED when too many questions wait. Never rejects. */
  forward(question: Question, flags: ForwardFlags): Promise<Answer> {
    this.#forwarded++
    const key = `${question.type} ${question.class} ${flags.dnssecOk} ${flags.checkingDisabled} ${question.name.key}`
    const same = this.#inFlight.get(key)
    if (same) return same
    if (this.#inFlight.size >= (this.#options.maxConcurrent ?? 1024)) {
      this.#failures++
      this.#rejected++
      return Promise.resolve({ ...tooMany, from: 'forward' })
    }
    const answer = this.#ask(question, flags).finally(() => this.#inFlight.delete(key))
    this.#inFlight.set(key, answer)
    return answer
  }

  async #ask(question: Question, flags: ForwardFlags): Promise<Answer> {
    const servers = this.#usable(question.name)
    const finished = new AbortController()
    const signal = AbortSignal.any([finished.signal, this.#stop.signal])
    const deadline = this.#clock.after(this.#options.deadline ?? 5000, () =>
      finished.abort(new Error('no answer in time')),
    )
    try {
      if (servers.length === 0) throw new Error('there is no upstream resolver')
      const { answer } = await this.#race(servers, { question, flags, signal })
      return { ...relevantAnswer(answer, { key: question.name.key, type: question.type }), from: 'forward' }
    } catch (error) {
      this.#failures++
      this.#options.log.debug({ error, servers }, 'No upstream resolver answered')
      const all = servers.length === 0 && this.#options.servers(question.name).length > 0 ? allLoop : noResolver
      return { ...(servers.length === 0 ? all : noAnswer), from: 'forward' }
    } finally {
      deadline.cancel()
      finished.abort()
    }
  }

  /**
   * Asks one server after the other: the next at once when one fails, and after a while when it is silent. The first
   * good reply wins; SERVFAIL and REFUSED are taken only when no server has a better one.
   */
  #race(servers: readonly Upstream[], request: UpstreamRequest): Promise<Reply> {
    // Silence may be a lost packet; an error says more, and is not asked for more than twice.
    let attempts = Math.max(maxAttempts, servers.length * 2)
    let errors = 0
    const { promise, resolve, reject } = Promise.withResolvers<Reply>()
    const waiting = new Set<Upstream>()
    let started = 0
    let running = 0
    let poor: Reply | undefined
    const next = () => {
      const server = servers[started % servers.length]
      if (request.signal.aborted || started >= attempts || server === undefined) return
      started++
      running++
      waiting.add(server)
      const began = this.#clock.monotonic()
      const silence = this.#watchSilence(server, { next, signal: request.signal })
      const goOn = (error: Error) => {
        silence.cancel()
        running--
        next()
        if (running > 0) return
        if (poor) resolve(poor)
        else reject(error)
      }
      this.#upstreams.asked(server.key)
      const exchange = this.#exchange(server, request)
      exchange.then(
        (reply) => {
          waiting.delete(server)
          const ms = this.#clock.monotonic() - began
          // Late ones count too, for the next time.
          this.#health.answered(server, ms)
          this.#outages.answers(server.key)
          this.#upstreams.answered(server.key, { rcode: reply.answer.rcode, seconds: ms / 1000 })
          if (!isPoor(reply)) {
            silence.cancel()
            for (const slower of waiting) this.#health.lost(slower)
            waiting.clear()
            resolve({ ...reply, answer: { ...reply.answer, via: server.key } })
            return
          }
          poor = reply
          // All were asked and this one is alive: to ask a second time would bring the same.
          if (started >= servers.length) attempts = started
          goOn(new Error('poor reply'))
        },
        (error: Error) => {
          if (!request.signal.aborted) this.#failed(server, error)
          if (++errors >= servers.length * 2) attempts = started
          goOn(error)
        },
      )
    }
    next()
    return promise
  }

  /** `error` undefined: it says nothing. */
  #failed(server: Upstream, error: Error | undefined): void {
    this.#health.failed(server)
    this.#upstreams.failed(server.key)
    this.#outages.fails(server.key, error)
  }

  /** Asks the next server when this one is silent for longer than usual, and gives it up for a while when for much longer. */
  #watchSilence(server: Upstream, { next, signal }: { next: () => void; signal: AbortSignal }): Timer {
    const giveUp = () => {
      if (signal.aborted) return
      this.#failed(server, undefined)
      void this.#probeLoop(server)
    }
    const { ms, early } = this.#health.patience(server)
    let timer = this.#clock.after(ms, () => {
      if (early) {
        this.#health.hedged()
        timer = this.#clock.after(Math.max(0, (this.#options.tryNextAfter ?? 1500) - ms), giveUp)
      } else giveUp()
      next()
    })
    return { cancel: () => timer.cancel() }
  }

  /** One server: UDP with EDNS, without EDNS for servers that do not know it (RFC 6891 section 6.2.2), TCP when truncated. */
  async #exchange(upstream: Upstream, { question, flags, signal }: UpstreamRequest): Promise<Reply> {
    if (upstream.tls) {
      const id = randomInt(0x1_0000)
      return this.#tls.exchange(encodeRequest(question, { id, edns: true, ...flags }), {
        upstream,
        question,
        id,
        signal,
      })
    }
    const caseless = this.#clock.monotonic() < (this.#caselessUntil.get(upstream.key) ?? 0)
    const asked = caseless ? question : { ...question, name: randomCase(question.name) }
    const send = (exchange: typeof exchangeUdp, edns: boolean): Promise<Reply> => {
      const id = randomInt(0x1_0000)
      return exchange(encodeRequest(asked, { id, edns, ...flags }), { upstream, question: asked, id, signal })
    }
    const exchange = upstream.tcpOnly ? exchangeTcp : exchangeUdp
    let reply = await send(exchange, true)
    const { rcode } = reply.answer
    const edns = rcode !== rcodes.FORMERR && rcode !== rcodes.NOTIMP
    if (!edns) reply = await send(exchange, false)
    if (!caseless && reply.question && !sameCase(reply.question.name, asked.name))
      return await this.#doubt(upstream, { ask: () => send(exchangeTcp, edns), asked: asked.name, signal }, () =>
        this.#exchange(upstream, { question, flags, signal }),
      )
    return reply.truncated ? send(exchangeTcp, edns) : reply
  }

  /**
   * A reply that does not repeat the case of the name is forged, or the server does not care. TCP cannot be forged from afar, so
   * what it says counts; and a server that does not repeat the case there either is known from then on.
   */
  async #doubt(
    { key }: Upstream,
    { ask, asked, signal }: { ask: () => Promise<Reply>; asked: Name; signal: AbortSignal },
    askAgain: () => Promise<Reply>,
  ): Promise<Reply> {
    const trustFromNowOn = () => this.#caselessUntil.set(key, this.#clock.monotonic() + caselessFor)
    try {
      const reply = await ask()
      if (reply.question && !sameCase(reply.question.name, asked)) trustFromNowOn()
      return reply
    } catch (error) {
      if (signal.aborted) throw error
      // No TCP either: without mixed case, id and port still stand against forgers.
      this.#options.log.debug(
        { error, upstream: key },
        'An upstream resolver changes the case of names and takes no TCP',
      )
      trustFromNowOn()
      return await askAgain()
    }
  }

  /** After silence: is it because the server asks us back, and waits for our answer as we for its? */
  async #probeLoop(upstream: Upstream): Promise<void> {
    const now = this.#clock.monotonic()
    if (upstream.tls || now - (this.#probedAt.get(upstream.key) ?? -Infinity) < probeTime * 2) return
    this.#probedAt.set(upstream.key, now)
    const given = new AbortController()
    const timer = this.#clock.after(probeTime, () => given.abort(new Error('no answer to the probe')))
    const signal = AbortSignal.any([given.signal, this.#stop.signal])
    const looping = await this.#loops.loops((name) => {
      const question = { name, type: recordTypes.HINFO, class: recordClasses.IN }
      const id = randomInt(0x1_0000)
      const flags = { id, edns: true, dnssecOk: false, checkingDisabled: false }
      return exchangeUdp(encodeRequest(question, flags), { upstream, question, id, signal })
    })
    timer.cancel()
    given.abort()
    if (!looping) return
    const { log } = this.#options
    if (!this.#loopingUntil.has(upstream.key))
      log.warn(
        { upstream: upstream.key },
        'This resolver asks us for what we ask it; it is left out, and tried again every minute',
      )
    this.#loopingUntil.set(upstream.key, now + loopingFor)
  }

  /** Whom to ask, in order: not those that ask us back. */
  #usable(name: Name): readonly Upstream[] {
    const now = this.#clock.monotonic()
    const servers = this.#health.order(this.#options.servers(name))
    return servers.filter(({ key }) => now >= (this.#loopingUntil.get(key) ?? 0))
  }
}

const tooMany = emptyAnswer(rcodes.REFUSED, {
  code: extendedErrors.OTHER,
  text: 'too many questions wait for upstream resolvers',
})
const noAnswer = emptyAnswer(rcodes.SERVFAIL, {
  code: extendedErrors.NO_REACHABLE_AUTHORITY,
  text: 'no upstream resolver answered',
})
const allLoop = emptyAnswer(rcodes.SERVFAIL, {
  code: extendedErrors.NO_REACHABLE_AUTHORITY,
  text: 'every upstream resolver asks us for what we ask it',
})
const noResolver = emptyAnswer(rcodes.SERVFAIL, {
  code: extendedErrors.NO_REACHABLE_AUTHORITY,
  text: 'there is no upstream resolver to ask',
})

/** A reply that says something about the server, and nothing about the name. */
function isPoor({ answer: { rcode } }: Reply): boolean {
  return rcode === rcodes.SERVFAIL || rcode === rcodes.REFUSED
}

interface UpstreamRequest {
  readonly question: Question
  readonly flags: ForwardFlags
  readonly signal: AbortSignal
}
