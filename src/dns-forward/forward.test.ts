import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { type IpAddress, parseIp } from '../net/ip-address.ts'
import { encodeResponse } from '../dns-message/encode-response.ts'
import { Forwarder, type ForwarderOptions } from './forward.ts'
import { nameText, parseName } from '../dns-message/name.ts'
import { parseRequest, type Query } from '../dns-message/query.ts'
import { addressSets, type Answer, emptyAnswer, rcodes, recordTypes } from '../dns-message/record-set.ts'
import { printRecords } from '../dns-message/print-records.ts'
import { plainUpstream } from './upstream.ts'

const one = parseIp('127.0.0.1')
const two = parseIp('127.0.0.2')

/** What a resolver does with a query: an answer, or silence. `lower`: it writes the question in lower case. */
interface Script {
  udp: (query: Query) => Answer | 'silence'
  tcp?: (query: Query) => Answer
  lower?: boolean
}

const says = (ip: string) => (query: Query) => ({
  ...emptyAnswer(0),
  answer: addressSets([parseIp(ip)], { owner: query.question.name, ttl: 20 }),
})
const silence = () => 'silence' as const

class Resolver implements AsyncDisposable {
  readonly seen: string[] = []
  script: Script
  readonly #udp = createSocket('udp4')
  readonly #tcp: Server

  constructor(script: Script) {
    this.script = script
    this.#udp.on('message', (message, client) => {
      const response = this.#respond(message, 'udp')
      if (response) this.#udp.send(response, client.port, client.address)
    })
    this.#tcp = createServer((socket) => {
      socket.on('data', (data) => {
        const response = this.#respond(data.subarray(2), 'tcp') ?? Buffer.alloc(0)
        const length = Buffer.alloc(2)
        length.writeUInt16BE(response.length)
        socket.end(Buffer.concat([length, response]))
      })
    })
  }

  async listen(address: IpAddress, port: number): Promise<number> {
    // TCP first: more of its ports are taken, by connections of other tests.
    this.#tcp.listen(port, address)
    await once(this.#tcp, 'listening')
    const bound = (this.#tcp.address() as AddressInfo).port
    if (!this.script.tcp) this.#tcp.close()
    this.#udp.bind(bound, address)
    await once(this.#udp, 'listening')
    return bound
  }

  #respond(message: Buffer, transport: 'udp' | 'tcp'): Buffer | undefined {
    const request = parseRequest(message)
    if (request.kind !== 'query') throw new Error('the forwarder sent no query')
    this.seen.push(`${transport} ${nameText(request.query.question.name).toLowerCase()}`)
    const { name, ...rest } = request.query.question
    const question = { ...rest, name: this.script.lower ? parseName(nameText(name).toLowerCase()) : name }
    const query = { ...request.query, question }
    const answer = transport === 'tcp' ? this.script.tcp?.(query) : this.script.udp(query)
    if (answer === undefined || answer === 'silence') return undefined
    return encodeResponse(query, answer, { transport, recursionAvailable: true, rotation: 0 })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#udp.close()
    if (!this.#tcp.listening) return
    const closed = once(this.#tcp, 'close')
    this.#tcp.close()
    await closed
  }
}

/** A forwarder to resolvers at 127.0.0.1, 127.0.0.2 ... */
async function setup(scripts: readonly Script[], options: Partial<ForwarderOptions> = {}) {
  const stack = new AsyncDisposableStack()
  const resolvers: Resolver[] = []
  let port = 0
  for (const [i, script] of scripts.entries()) {
    const resolver = stack.use(new Resolver(script))
    port = await resolver.listen([one, two][i] ?? one, port)
    resolvers.push(resolver)
  }
  const forwarder = new Forwarder({
    servers: () => [one, two].slice(0, scripts.length).map((address) => plainUpstream(address, port)),
    log: silentLog,
    ...options,
  })
  stack.defer(() => forwarder.stop())
  const ask = async (name: string) => {
    const question = { name: parseName(name), type: recordTypes.A, class: 1 }
    const start = performance.now()
    const answer = await forwarder.forward(question, { dnssecOk: false, checkingDisabled: false })
    return { answer, ms: performance.now() - start, text: printRecords(answer.answer).join() }
  }
  return { resolvers, ask, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

describe('Forwarder', () => {
  test('Forwarder asks the next server early when the first one, known to be fast, is silent', async () => {
    await using world = await setup([{ udp: says('198.51.100.1') }, { udp: says('198.51.100.2') }])
    for (const name of ['a.example', 'b.example', 'c.example']) expect((await world.ask(name)).text).toContain('100.1')
    world.resolvers[0]!.script = { udp: silence }
    const { ms, text } = await world.ask('d.example')
    expect(text).toContain('100.2')
    expect(ms).toBeLessThan(1200)
    // Three lost races, and it is asked last.
    await world.ask('e.example')
    await world.ask('f.example')
    const before = world.resolvers[0]!.seen.length
    expect((await world.ask('g.example')).ms).toBeLessThan(100)
    expect(world.resolvers[0]!.seen.length).toBe(before)
  })

  test.each([
    ['says SERVFAIL', () => emptyAnswer(rcodes.SERVFAIL)],
    ['says REFUSED', () => emptyAnswer(rcodes.REFUSED)],
  ])('Forwarder asks the next server at once when the first one %s', async (_what, udp) => {
    await using world = await setup([{ udp }, { udp: says('198.51.100.2') }])
    const { ms, text } = await world.ask('a.example')
    expect(text).toContain('100.2')
    expect(ms).toBeLessThan(500)
  })

  test('Forwarder takes NXDOMAIN for an answer, and asks nobody else', async () => {
    await using world = await setup([{ udp: () => emptyAnswer(rcodes.NXDOMAIN) }, { udp: says('198.51.100.2') }])
    expect((await world.ask('a.example')).answer.rcode).toBe(rcodes.NXDOMAIN)
    expect(world.resolvers[1]!.seen).toEqual([])
  })

  test('Forwarder says SERVFAIL and why when nobody answers, and when all fail', async () => {
    await using dead = await setup([{ udp: silence }], { deadline: 200 })
    expect((await dead.ask('a.example')).answer).toMatchObject({ rcode: rcodes.SERVFAIL, extendedError: { code: 22 } })
    await using failing = await setup([{ udp: () => emptyAnswer(rcodes.SERVFAIL) }])
    expect((await failing.ask('a.example')).answer.rcode).toBe(rcodes.SERVFAIL)
    await using none = await setup([])
    expect((await none.ask('a.example')).answer).toMatchObject({ rcode: rcodes.SERVFAIL, extendedError: { code: 22 } })
  })

  test('Forwarder believes TCP, not a reply over UDP that does not repeat the case of the name', async () => {
    const name = 'a-long-name-with-many-letters.example'
    await using world = await setup([{ udp: says('6.6.6.6'), tcp: says('198.51.100.1'), lower: true }])
    const resolver = world.resolvers[0]!
    expect((await world.ask(name)).text).toContain('198.51.100.1')
    // It writes lower case over TCP too: it is no forger's doing, and is not doubted again.
    expect((await world.ask(`b.${name}`)).text).toContain('6.6.6.6')
    expect(resolver.seen).toEqual([`udp ${name}.`, `tcp ${name}.`, `udp b.${name}.`])
  })

  test('Forwarder gets along with a resolver that changes the case and takes no TCP', async () => {
    await using world = await setup([{ udp: says('198.51.100.1'), lower: true }])
    expect((await world.ask('a-long-name-with-many-letters.example')).text).toContain('198.51.100.1')
  })

  test('Forwarder drops records of names that nobody asked for', async () => {
    const lie = (query: Query): Answer => {
      const more = addressSets([parseIp('6.6.6.6')], { owner: parseName('bank.example'), ttl: 20 })
      const answer = says('198.51.100.1')(query)
      return { ...answer, answer: [...more, ...answer.answer] }
    }
    await using world = await setup([{ udp: lie }])
    expect((await world.ask('a.example')).text).not.toContain('6.6.6.6')
  })
})
