import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateServices } from './generate-services.ts'
import { concludeConnect, lateFigure } from './connect-conclusions.ts'
import { directTargets, ruleOrder, serviceTargets, udpEndpoints, type Target } from './connect-targets.ts'
import { awaitIdle } from './idle.ts'
import { compileManifests, matchCost, type CostOf } from './match-cost.ts'
import { startContender } from './contender.ts'
import { ControlPlane } from './control-plane.ts'
import { contenderNames, type Contender, type ContenderName } from './contender-names.ts'
import { whyTooLittleMemory } from './memory-needed.ts'
import { runRounds, type Arm } from './rounds.ts'
import type { BenchOptions } from './options.ts'
import type { FigureKey } from './series.ts'
import { median } from './statistics.ts'
import type { Suite, SuiteContext } from './suite.ts'
import { endpointPort, TrafficLab, unservedAddress, type TrafficNode } from './traffic-lab.ts'
import type { TrafficReply, TrafficTask } from './traffic-task.ts'

/** Connections to each target in a round. */
const connectionsEach = 20
/** Who has no answer then has none. */
const timeoutMs = 1000

/** What a connection costs. */
export const connectSuite: Suite = {
  name: 'connect',
  measures:
    'new connections to the first, middle and last Service and to no Service, over TCP and UDP, against the number of Services; connections per second; round trips on one connection',
  why: 'Only the first packet of a connection is matched against rules, so only new connections show what a mode costs.',
  byDefault: true,
  heeds: ['services', 'endpoints', 'modes', 'peers', 'rounds', 'start-limit'],
  estimate: (options) => startSeconds(options) + roundSeconds(options),
  missing: async (options) => {
    const reason = options.force ? undefined : whyTooLittleMemory(options)
    return await Promise.resolve(reason === undefined ? [] : [reason])
  },
  async run(context) {
    const { options, recorder, progress, random, signal } = context
    await using stack = new AsyncDisposableStack()
    const folder = mkdtempSync(join(tmpdir(), 'connect-'))
    stack.defer(() => rmSync(folder, { recursive: true, force: true }))
    const lab = stack.use(await TrafficLab.open(process.env['PATH'] ?? ''))
    await lab.listen('udp', unservedAddress, endpointPort)
    const standing: Standing[] = []
    const startShare = startSeconds(options) / connectSuite.estimate(options)
    for (const [index, services] of options.services.entries()) {
      const share = (part: number): number => (startShare * (index + part)) / options.services.length
      standing.push(...(await startSize(context, { lab, stack, folder, services, share, port: 6443 + index })))
    }
    progress.say('connect: all proxies come to rest', startShare)
    const idle = await awaitIdle(
      standing.map(({ name, services, lane }) => ({ name: `${name.name}, ${services} Services`, lane })),
      signal,
    )
    if (standing.some(({ name }) => name.name !== 'direct')) {
      const percent = (share: number): string => `${(share * 100).toFixed(0)} % of a CPU`
      const most = idle.isIdle || !idle.busiest ? '' : `; most by ${idle.busiest.name}: ${percent(idle.busiest.share)}`
      recorder.claim(
        'all proxies are idle before the first round, so that none disturbs another',
        idle.isIdle,
        `${percent(idle.share)}, all together${most}`,
      )
    }
    const arms = standing.map((one): Arm => ({
      name: `${one.name.name}, ${one.services} Services`,
      measure: async (round, { warmUp }) => await measureOnce(context, { lab, one, round, warmUp }),
    }))
    await runRounds(arms, {
      part: 'all sizes',
      rounds: options.rounds,
      random,
      recorder,
      signal,
      onRound: (round) =>
        progress.step(
          `connect: all sizes: round ${round + 1} of ${options.rounds}`,
          startShare + ((1 - startShare) * (round + 1)) / options.rounds,
        ),
    })
    concludeConnect(recorder, { random })
  },
}

/** About how long it takes until all contenders stand at all sizes. */
function startSeconds(options: BenchOptions): number {
  return options.services.reduce((sum, n) => sum + contenderNames(options).length * (2 + n * 0.0012), 0)
}

/** About how long all rounds take. */
function roundSeconds(options: BenchOptions): number {
  return options.services.length * contenderNames(options).length * options.rounds * 0.04
}

/** One contender at one number of Services with its node, ready to be connected through. */
interface Standing {
  readonly name: ContenderName
  readonly services: number
  readonly lane: TrafficNode
  readonly targets: readonly Target[]
  readonly running: Contender
}

interface StartSize {
  readonly lab: TrafficLab
  /** What is started is put here. */
  readonly stack: AsyncDisposableStack
  readonly folder: string
  readonly services: number
  readonly share: (part: number) => number
  /** Of the API server that peers follow. */
  readonly port: number
}

/** Starts all contenders with a number of Services, one after another. They stay until the end of the suite. */
async function startSize(context: SuiteContext, size: StartSize): Promise<Standing[]> {
  const { options, recorder, progress, signal } = context
  const { lab, stack, services, share, port } = size
  const folder = join(size.folder, String(services))
  const set = { services, endpointsEach: options.endpoints, withUdp: true }
  const manifests = join(folder, 'manifests')
  generateServices(manifests, set)
  const compiled = await compileManifests(manifests)
  const plane =
    options.peers.length > 0 && services > 0
      ? stack.use(await ControlPlane.open(lab, { folder: join(folder, 'api'), manifests, port }))
      : undefined
  const standing: Standing[] = []
  for (const [index, name] of contenderNames(options).entries()) {
    signal.throwIfAborted()
    progress.say(`connect: ${services} Services: starting ${name.name}`, share(index / contenderNames(options).length))
    try {
      const lane = stack.use(await lab.addNode())
      const sources = name.peer ? plane && { plane } : { manifests }
      const start = { lab, lane, folder: join(folder, name.name), ...sources, options, signal }
      const running = stack.use(await startContender(name, start))
      const targets = name.name === 'direct' ? directTargets() : serviceTargets(set, await ruleOrder(lane.node))
      for (const ip of udpEndpoints(set, targets)) await lab.listen('udp', ip, endpointPort)
      const one = { name, services, lane, targets, running }
      standing.push(one)
      const costOf = name.mode && (await matchCost(name.mode, { netns: lane.node, services: compiled }))
      if (costOf) recordCost(context, { standing: one, costOf })
    } catch (error) {
      signal.throwIfAborted()
      recorder.fail(`${name.name}, ${services} Services`, error)
    }
  }
  return standing
}

function recordCost(
  { recorder, options }: SuiteContext,
  { standing, costOf }: { readonly standing: Standing; readonly costOf: CostOf },
): void {
  for (const { name, protocol, ip, port } of standing.targets) {
    const { rules, lookups } = costOf({ protocol, source: '172.16.0.2', ip, port })
    const key = {
      unit: '',
      kind: 'count',
      better: 'less',
      mode: standing.name.name,
      services: standing.services,
      endpoints: options.endpoints,
      labels: { target: name, protocol },
    } as const
    recorder.add({ ...key, figure: 'rules visited (model)' }, rules)
    recorder.add({ ...key, figure: 'lookups (model)' }, lookups)
  }
}

interface Once {
  readonly lab: TrafficLab
  readonly one: Standing
  readonly round: number
  readonly warmUp: boolean
}

async function measureOnce(
  { recorder, random, options }: SuiteContext,
  { lab, one, round, warmUp }: Once,
): Promise<void> {
  const ended = one.running.ended()
  if (ended !== undefined) throw new Error(ended)
  const netns = one.lane.client.path
  const base = { mode: one.name.name, services: one.services, endpoints: options.endpoints } as const
  const task = (target: Target, more: Partial<TrafficTask> = {}): TrafficTask => {
    const { protocol, ip, port } = target
    return { kind: 'connect', netns, protocol, ip, port, count: connectionsEach, timeoutMs, ...more }
  }
  let late = 0
  const add = (key: FigureKey, ns: readonly number[]): void => {
    if (!warmUp) recorder.add(key, median(ns) / 1000, { round, raw: ns })
  }
  for (const target of random.shuffle(one.targets)) {
    const labels = { target: target.name, protocol: target.protocol }
    const key = { ...base, unit: 'us', kind: 'time', better: 'less', labels } as const
    const { connectNs, firstByteNs, failures } = await lab.ask(task(target))
    const lateHere = countLate(failures, { asked: connectionsEach, target })
    late += lateHere
    // They took at least that long: without them a mode that loses packets would look faster.
    const longest = Array.from({ length: lateHere }, () => timeoutMs * 1e6)
    if (target.protocol === 'tcp') add({ ...key, figure: 'SYN to SYN-ACK' }, [...connectNs, ...longest])
    add({ ...key, figure: 'time to first byte' }, [...firstByteNs, ...longest])
  }
  const last = one.targets.find(({ name, protocol }) => name === 'last Service' && protocol === 'tcp')
  if (!last) return
  const labels = { target: last.name, protocol: 'tcp' }
  const { elapsedNs, connectNs, failures } = await lab.ask(task(last, { request: true, count: 2 * connectionsEach }))
  late += countLate(failures, { asked: 2 * connectionsEach, target: last })
  if (!warmUp) {
    const key = {
      ...base,
      figure: 'connections with a request',
      unit: '/s',
      kind: 'rate',
      better: 'more',
      labels,
    } as const
    recorder.add(key, (connectNs.length / elapsedNs) * 1e9, { round })
  }
  const trips = await lab.ask(task(last, { kind: 'round-trips', count: 5 * connectionsEach }))
  late += countLate(trips.failures, { asked: 5 * connectionsEach, target: last })
  add(
    { ...base, figure: 'round trip on one connection', unit: 'us', kind: 'time', better: 'less', labels },
    trips.firstByteNs,
  )
  if (!warmUp) recorder.add({ ...base, figure: lateFigure, unit: '', kind: 'size', better: 'less' }, late, { round })
}

/**
 * How many answers did not come in time: a busy machine has some. Throws when it is more than one of ten, or something else that
 * failed: that is no slow mode, but one that does not work.
 */
function countLate(
  failures: TrafficReply['failures'],
  { asked, target }: { readonly asked: number; readonly target: Target },
): number {
  const { timeout = 0, ...others } = failures
  if (timeout <= asked / 10 && Object.keys(others).length === 0) return timeout
  const failed = Object.entries(failures).map(([code, count]) => `${count} x ${code}`)
  throw new Error(
    `${asked} connections to the ${target.name} (${target.protocol} ${target.ip}:${target.port}): ${failed.join(', ')}`,
  )
}
