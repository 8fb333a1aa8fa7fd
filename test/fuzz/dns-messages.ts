/**
 * Mutated queries into both paths of the DNS server, without sockets: `node test/fuzz/dns-messages.ts [COUNT] [SEED]`.
 * Each response must be readable to its last octet, have the id, and keep to the offered size; what workers answer must be what the
 * general path answers, up to the order of records, and what they pass on must be untouched; the process must not grow.
 */
import { readFileSync } from 'node:fs'
import { silentLog } from '../../src/base/log.ts'
import { ClusterZone } from '../../src/dns/cluster-zone.ts'
import { Cookies } from '../../src/dns/cookies.ts'
import { encodeRequest } from '../../src/dns-message/encode-request.ts'
import { parseName } from '../../src/dns-message/name.ts'
import { parseRequest, type Query } from '../../src/dns-message/query.ts'
import { emptyAnswer, rcodes } from '../../src/dns-message/record-set.ts'
import { DnsCounts } from '../../src/dns/dns-counts.ts'
import { resolveQuery } from '../../src/dns/resolve.ts'
import { respond, type RespondOptions } from '../../src/dns/respond.ts'
import { snapshotOf, sortRotated } from '../../src/dns/testing.ts'
import { ZoneTable } from '../../src/dns/zone-table.ts'
import { AnswerFinder } from '../../src/dns-workers/answer-finder.ts'
import { parseDnsCase } from '../conformance-dns/parse-dns-case.ts'
import { readMessage } from '../conformance-dns/read-message.ts'
import { findCaseFiles } from '../conformance/run-cases.ts'

const count = Number(process.argv[2] ?? 1_000_000)
const seed = Number(process.argv[3] ?? Date.now() % 0x7fff_ffff)
const random = randomNumbers(seed)
const below = (limit: number): number => Math.floor(random() * limit)

const corpus = findCaseFiles(['test/cases/dns']).flatMap((file) =>
  parseDnsCase(readFileSync(file, 'utf8'), file).steps.flatMap((step) => step.queries.map((query) => query.message)),
)
/** What is asked most, so that it is mutated most: half of it is plain enough for workers. */
for (const text of [
  'cart',
  'peers',
  'a.peers',
  '_http._tcp.cart',
  'nobody',
  'www.example.com',
  '10-7-1-9.peers',
  'pay',
]) {
  const name = parseName(`${text}.shop.svc.cluster.local`)
  for (const [i, type] of [1, 28, 33, 1, 65].entries()) {
    const options = { id: below(0xffff), edns: i > 1, dnssecOk: i === 3, checkingDisabled: i === 4 }
    for (let copies = 6; copies > 0; copies--) corpus.push(encodeRequest({ name, type, class: 1 }, options))
  }
}
const zone = new ClusterZone()
const table = new ZoneTable({ zone, log: silentLog })
const many = Array.from({ length: 100 }, (_, i) => `10.7.1.${i + 1}`)
zone.update(
  snapshotOf({
    'shop/cart': { ips: ['172.30.4.10', 'fd00::10'], ports: ['http/TCP/80'] },
    'shop/peers': { endpoints: many, endpointPorts: ['gossip/UDP/7946', 'api/TCP/80'] },
    'shop/pay': { externalName: 'pay.example.com' },
    'shop/ring': { externalName: 'ring.shop.svc.cluster.local' },
  }),
  true,
)
for (const name of ['a.cart', 'a.peers', 'pay', 'ring']) table.learn(parseName(`${name}.shop.svc.cluster.local`).key, 1)
/** Where a worker keeps a message: others of its batch stand before and behind it. */
const place = { start: 4288, end: 2 * 4288 }
const batch = new Uint8Array(3 * 4288).fill(0xaa)
const finder = new AnswerFinder(table.table.memory, batch)
const counts = new DnsCounts()
const context = {
  client: '10.7.1.1',
  zone,
  forwarder: { forward: () => emptyAnswer(rcodes.NXDOMAIN), isReturning: () => false },
  names: undefined,
  version: 'fairlead',
}
const resolver = { counts, resolve: (query: Query) => resolveQuery(query, context) }
const options: RespondOptions = {
  resolverOf: () => resolver,
  counts,
  rotation: { next: 0 },
  log: silentLog,
  cookies: new Cookies(),
}

let responses = 0
let fastResponses = 0
let heap = 0
const start = performance.now()
for (let done = 0; done < count; done++) {
  const message = mutate(corpus[below(corpus.length)] ?? Buffer.alloc(0))
  const transport = done % 4 === 0 ? 'tcp' : 'udp'
  try {
    respond(message, transport, {
      client: { address: '10.7.1.1', send: (response) => check(response, message, transport) },
      options,
    })
    compare(message)
  } catch (error) {
    fail(String(error), message)
  }
  // Only ExternalNames are answered later.
  if (done % 1000 === 0) await new Promise((resolve) => setImmediate(resolve))
  if (done === Math.floor(count / 5)) heap = usedHeap()
}
await new Promise((resolve) => setTimeout(resolve, 10))
const grown = (usedHeap() - heap) / 1024 / 1024
const perSecond = Math.round(count / ((performance.now() - start) / 1000))
const total = DnsCounts.total([counts])
const answers = Object.groupBy(total.responses, ({ rcode }) => rcode)
console.log(
  `dns fuzz: seed ${seed}, ${count} messages, ${fastResponses} answered by workers, ${responses} by the general path (${Object.entries(
    answers,
  )
    .map(([rcode, list = []]) => `${rcode} ${list.reduce((sum, { count }) => sum + count, 0)}`)
    .join(', ')}), ${total.dropped} dropped, ` +
    `${total.errors} errors, heap ${grown.toFixed(1)} MiB larger, ${perSecond} a second`,
)
if (total.errors > 0) fail('an error of ours')
if (grown > 20) fail(`the heap grew by ${grown.toFixed(1)} MiB`)

/** What a worker does with a message: the same as the general path, or nothing at all. */
function compare(message: Buffer): void {
  batch.set(message, place.start)
  const length = finder.answer(place.start, message.length)
  const after = Buffer.from(batch.subarray(place.start, place.start + Math.max(length, message.length)))
  batch.fill(0xaa, place.start, place.end)
  if (batch[place.start - 1] !== 0xaa || batch[place.end] !== 0xaa) fail('a neighbour was written over', message)
  if (length <= 0) {
    if (!after.equals(message)) fail('it was not passed on as it was', message)
    return
  }
  fastResponses++
  let general: Buffer | undefined
  respond(message, 'udp', { client: { address: '10.7.1.1', send: (response) => (general = response) }, options })
  const [fast, slow] = [after.subarray(0, length), general ?? Buffer.alloc(12)].map((bytes) =>
    sortRotated(bytes).join(),
  )
  if (fast !== slow) fail(`workers say ${fast}, the general path ${slow}`, message)
}

function check(response: Buffer, message: Buffer, transport: 'udp' | 'tcp'): void {
  responses++
  if (response.readUInt16BE(0) !== message.readUInt16BE(0)) fail('another id', message)
  try {
    const reply = readMessage(response)
    if (!reply.flags.qr || reply.flags.z) fail('not a response, or a reserved bit', message)
  } catch (error) {
    fail(String(error), message)
  }
  if (response.length <= 512) return
  const request = parseRequest(message)
  const edns = request.kind === 'query' ? request.query.edns : undefined
  const limit = transport === 'tcp' ? 65_535 : edns ? Math.min(1232, Math.max(512, edns.udpSize)) : 512
  if (response.length > limit) fail(`${response.length} octets, at most ${limit}`, message)
}

/** One to four changes, mostly one: bits, octets, 16-bit numbers, cuts, repetitions, pieces of other messages. */
function mutate(original: Buffer): Buffer {
  let bytes = Buffer.from(original)
  for (let changes = 1 + below(1 + below(4)); changes > 0; changes--) {
    const at = below(Math.max(1, bytes.length))
    switch (below(8)) {
      case 0:
      case 1:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8))
        break
      case 2:
        bytes[at] = below(256)
        break
      case 3:
        if (bytes.length >= 14)
          bytes.writeUInt16BE([0, 1, 2, 41, 255, 0xc00c, 0xffff][below(7)] ?? 0, below(bytes.length - 1))
        break
      case 4:
        bytes = Buffer.from(bytes.subarray(0, at))
        break
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(below(at + 1))])
        break
      case 6: {
        const other = corpus[below(corpus.length)] ?? bytes
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(below(other.length + 1))])
        break
      }
      default:
        // A letter in another case or a length octet that is one off.
        bytes[at] = ((bytes[at] ?? 0) + (below(2) ? 1 : 0x20)) & 0xff
    }
  }
  return bytes.length > 4096 ? Buffer.from(bytes.subarray(0, 4096)) : bytes
}

function fail(what: string, message: Buffer = Buffer.alloc(0)): never {
  console.error(`dns fuzz: ${what}, with seed ${seed}: ${message.toString('hex')}`)
  process.exit(1)
}

function usedHeap(): number {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

/** Mulberry32: the same numbers for the same seed. */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
