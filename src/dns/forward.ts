import { randomInt } from 'node:crypto'
import { type Clock, systemClock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { encodeRequest } from './encode-request.ts'
import type { Question } from './query.ts'
import { type Answer, emptyAnswer, rcodes } from './record-set.ts'
import type { Reply } from './reply.ts'
import { exchangeTcp, exchangeUdp, type Upstream } from './upstream-exchange.ts'

export interface ForwarderOptions {
  /** Read for each question, so that a change counts at once. */
  readonly servers: () => readonly IpAddress[]
  readonly log: Log
  /** Default 53. */
  readonly port?: number
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

/** How long a server that did not answer is asked only after the others. */
const distrustFor = 10_000
/** Requests per question. */
const maxAttempts = 6

/** Asks the node's own resolvers. */
export class Forwarder {
  readonly #options: ForwarderOptions
  readonly #clock: Clock
  /** RFC 5452 section 5: of equal questions only one is in flight, or a forger gets as many chances as there are. */
  readonly #inFlight = new Map<string, Promise<Answer>>()
  readonly #failedAt = new Map<IpAddress, number>()
  readonly #stop = new AbortController()
  #failures = 0
  #forwarded = 0

  constructor(options: ForwarderOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
  }

  get counters(): { readonly forwarded: number; readonly failures: number } {
    return { forwarded: this.#forwarded, failures: this.#failures }
  }

  /** Gives up all questions in flight: they become SERVFAIL. */
  stop(): void {
    this.#stop.abort(new Error('the DNS server stops'))
  }

  /** The upstream's answer; SERVFAIL when nobody answers, REFUSED when too many questions wait. Never rejects. */
  forward(question: Question, flags: ForwardFlags): Promise<Answer> {
    this.#forwarded++
    const key = `${question.type} ${question.class} ${flags.dnssecOk} ${flags.checkingDisabled} ${question.name.key}`
    const same = this.#inFlight.get(key)
    if (same) return same
    if (this.#inFlight.size >= (this.#options.maxConcurrent ?? 1024)) {
      this.#failures++
      return Promise.resolve(emptyAnswer(rcodes.REFUSED))
    }
    const answer = this.#ask(question, flags).finally(() => this.#inFlight.delete(key))
    this.#inFlight.set(key, answer)
    return answer
  }

  async #ask(question: Question, flags: ForwardFlags): Promise<Answer> {
    const servers = this.#ordered()
    const finished = new AbortController()
    const signal = AbortSignal.any([finished.signal, this.#stop.signal])
    const deadline = this.#clock.after(this.#options.deadline ?? 5000, () =>
      finished.abort(new Error('no answer in time')),
    )
    try {
      if (servers.length === 0) throw new Error('there is no upstream resolver')
      return (await this.#race(servers, { question, flags, signal })).answer
    } catch (error) {
      this.#failures++
      this.#options.log.debug({ error, servers }, 'No upstream resolver answered')
      return emptyAnswer(rcodes.SERVFAIL)
    } finally {
      deadline.cancel()
      finished.abort()
    }
  }

  /**
   * Asks one server after the other: the next at once when one fails, and after a while when it is silent. The first
   * good reply wins; SERVFAIL and REFUSED are taken only when no server has a better one.
   */
  #race(servers: readonly IpAddress[], request: UpstreamRequest): Promise<Reply> {
    const attempts = Math.min(maxAttempts, servers.length * 2)
    const { promise, resolve, reject } = Promise.withResolvers<Reply>()
    let started = 0
    let running = 0
    let poor: Reply | undefined
    const next = () => {
      const address = servers[started % servers.length]
      if (request.signal.aborted || started >= attempts || address === undefined) return
      started++
      running++
      const silence = this.#clock.after(this.#options.tryNextAfter ?? 1500, () => {
        this.#distrust(address)
        next()
      })
      const goOn = (error: Error) => {
        silence.cancel()
        running--
        next()
        if (running > 0) return
        if (poor) resolve(poor)
        else reject(error)
      }
      const exchange = this.#exchange({ address, port: this.#options.port ?? 53 }, request)
      exchange.then(
        (reply) => {
          this.#failedAt.delete(address)
          if (!isPoor(reply)) {
            silence.cancel()
            resolve(reply)
            return
          }
          poor = reply
          // All were asked and this one is alive: to ask a second time would bring the same.
          if (started >= servers.length) started = attempts
          goOn(new Error('poor reply'))
        },
        (error: Error) => {
          if (!request.signal.aborted) this.#distrust(address)
          goOn(error)
        },
      )
    }
    next()
    return promise
  }

  /** One server: UDP with EDNS, without EDNS for servers that do not know it (RFC 6891 section 6.2.2), TCP when truncated. */
  async #exchange(upstream: Upstream, { question, flags, signal }: UpstreamRequest): Promise<Reply> {
    const send = (exchange: typeof exchangeUdp, edns: boolean): Promise<Reply> => {
      const id = randomInt(0x1_0000)
      return exchange(encodeRequest(question, { id, edns, ...flags }), { upstream, question, id, signal })
    }
    let reply = await send(exchangeUdp, true)
    const { rcode } = reply.answer
    const edns = rcode !== rcodes.FORMERR && rcode !== rcodes.NOTIMP
    if (!edns) reply = await send(exchangeUdp, false)
    return reply.truncated ? send(exchangeTcp, edns) : reply
  }

  #distrust(address: IpAddress): void {
    this.#failedAt.set(address, this.#clock.monotonic())
  }

  /** In the given order, but servers that failed lately come last. */
  #ordered(): readonly IpAddress[] {
    const servers = this.#options.servers()
    const distrusted = (address: IpAddress): boolean => {
      const failedAt = this.#failedAt.get(address)
      return failedAt !== undefined && this.#clock.monotonic() - failedAt < distrustFor
    }
    return [...servers.filter((ip) => !distrusted(ip)), ...servers.filter(distrusted)]
  }
}

/** A reply that says something about the server, and nothing about the name. */
function isPoor({ answer: { rcode } }: Reply): boolean {
  return rcode === rcodes.SERVFAIL || rcode === rcodes.REFUSED
}

interface UpstreamRequest {
  readonly question: Question
  readonly flags: ForwardFlags
  readonly signal: AbortSignal
}
