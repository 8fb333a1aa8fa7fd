import { setTimeout as sleep } from 'node:timers/promises'
import type { Outcome } from '../lab/host.ts'
import { patience } from '../lab/patience.ts'
import type { EndpointName, Flow } from './flow-case.ts'
import type { World } from './world.ts'

/** What became of a flow: undefined when it is as expected, else what was seen instead. */
export type Seen = string | undefined

/** How long a connection may take, ms: the second SYN goes after one second, and an IPv6 refusal may be noticed only then. */
const connectTimeout = 3000
/** A refusal that comes with the second SYN or later is not at once, ms. */
const atOnce = 950
/** Connections by which shares are measured, and how many are under way at a time. */
const shareConnections = 1000
const shareParallel = 16
/** Deviation that is allowed, in standard deviations of the count: beyond five, chance is one in a million. */
const shareSigmas = 5

/** Makes the connections of a flow and compares what becomes of them with what is expected. */
export async function checkFlow(flow: Flow, world: World): Promise<Seen> {
  await using stack = new AsyncDisposableStack()
  if (flow.from !== 'node' && world.client(flow.from).host === world.node)
    stack.use(await world.ensureNodeAddress(flow.from))
  const connect = (): Promise<Outcome> => connectOnce(flow, world)
  switch (flow.expect) {
    case 'reject':
      return await checkReject(flow, connect)
    case 'drop': {
      const outcome = await connect()
      return outcome === 'timeout' ? undefined : describe(outcome)
    }
    case 'host': {
      stack.use(await world.listenOnNode(flow))
      return await checkEndpoints({ ...flow, expect: ['host'] }, ['host'], connect)
    }
    default:
      return flow.weights
        ? await checkShares(flow, flow.weights, connect)
        : await checkEndpoints(flow, flow.expect, connect)
  }
}

async function connectOnce(flow: Flow, world: World): Promise<Outcome> {
  const { address, port } = flow
  const timeout = patience(connectTimeout)
  if (flow.sourcePort !== undefined)
    return await world.udpClient(flow.from, flow.sourcePort).ask(address, port, { timeout })
  const { host, ...source } = world.client(flow.from)
  const options = { timeout, ...source }
  switch (flow.protocol) {
    case 'tcp':
      return await host.connectTcp(address, port, options)
    case 'udp':
      return await host.connectUdp(address, port, options)
    case 'sctp':
      return await host.connectSctp(address, port, options)
    default:
      return flow.protocol satisfies never
  }
}

async function checkReject(flow: Flow, connect: () => Promise<Outcome>): Promise<Seen> {
  let took = 0
  // Once more when it was slow: it may be this machine that is.
  for (let attempt = 0; attempt < 2; attempt++) {
    const start = performance.now()
    const outcome = await connect()
    took = performance.now() - start
    if (outcome !== 'refused') return describe(outcome)
    if (took < patience(atOnce) || flow.address.includes(':')) return undefined
  }
  return `refused only after ${Math.round(took)} ms`
}

async function checkEndpoints(
  flow: Flow,
  expected: readonly EndpointName[],
  connect: () => Promise<Outcome>,
): Promise<Seen> {
  const { least, most } = attemptsOf(flow, expected.length)
  const counts = new Map<EndpointName, number>()
  for (let attempt = 0; attempt < most; attempt++) {
    if (attempt > 0 && flow.interval !== undefined) await sleep(flow.interval)
    const outcome = await connect()
    const wrong = wrongWith(flow, expected, outcome)
    if (wrong !== undefined) return counts.size > 0 ? `${wrong}, after ${formatCounts(counts)}` : wrong
    const { reply } = outcome as Exclude<Outcome, string>
    counts.set(reply, (counts.get(reply) ?? 0) + 1)
    if (flow.sticky && counts.size > 1) return `${formatCounts(counts)}, expected one and the same endpoint`
    if (!flow.sticky && attempt + 1 >= least && counts.size === expected.length) return undefined
  }
  return flow.sticky ? undefined : `only ${formatCounts(counts)}`
}

/** How many connections a flow makes, by the cases' README. */
export function attemptsOf(
  flow: Pick<Flow, 'sticky' | 'interval'>,
  endpoints: number,
): { least: number; most: number } {
  if (flow.sticky) return { least: 6, most: 6 }
  const most = flow.interval === undefined ? 16 * endpoints : 16
  return { least: Math.min(4 * endpoints, most), most }
}

async function checkShares(
  flow: Flow,
  weights: ReadonlyMap<EndpointName, number>,
  connect: () => Promise<Outcome>,
): Promise<Seen> {
  const counts = new Map<EndpointName, number>()
  let begun = 0
  let wrong: string | undefined
  const work = async (): Promise<void> => {
    while (begun < shareConnections && wrong === undefined) {
      begun++
      const outcome = await connect()
      wrong ??= wrongWith(flow, [...weights.keys()], outcome)
      if (typeof outcome !== 'string') counts.set(outcome.reply, (counts.get(outcome.reply) ?? 0) + 1)
    }
  }
  await Promise.all(Array.from({ length: shareParallel }, work))
  return wrong ?? wrongShares(counts, weights)
}

/** Compares counts of connections with shares. Undefined when chance explains the difference. */
export function wrongShares(
  counts: ReadonlyMap<EndpointName, number>,
  weights: ReadonlyMap<EndpointName, number>,
): string | undefined {
  const connections = sum(counts.values())
  const whole = sum(weights.values())
  for (const [name, weight] of weights) {
    const share = weight / whole
    const expected = connections * share
    const allowed = shareSigmas * Math.sqrt(expected * (1 - share))
    const count = counts.get(name) ?? 0
    if (Math.abs(count - expected) > allowed)
      return `${name} has ${count} of ${connections} connections (expected ${Math.round(expected)} ± ${Math.round(allowed)})`
  }
  return undefined
}

function wrongWith(flow: Flow, expected: readonly EndpointName[], outcome: Outcome): string | undefined {
  if (typeof outcome === 'string' || !expected.includes(outcome.reply)) return describe(outcome)
  const masqueraded = outcome.seenSource !== outcome.ownAddress
  if (flow.masquerade === undefined || flow.masquerade === masqueraded) return undefined
  return masqueraded
    ? `${outcome.reply} saw the source ${outcome.seenSource} instead of the client's ${outcome.ownAddress}`
    : `${outcome.reply} saw the client's own address ${outcome.ownAddress}`
}

function describe(outcome: Outcome): string {
  if (typeof outcome !== 'string') return `answer of ${outcome.reply}`
  return outcome === 'timeout' ? `silence for ${connectTimeout / 1000} s` : outcome
}

function formatCounts(counts: ReadonlyMap<EndpointName, number>): string {
  return [...counts].map(([name, count]) => `${name} (${count}x)`).join(', ')
}

function sum(numbers: Iterable<number>): number {
  let total = 0
  for (const number of numbers) total += number
  return total
}
