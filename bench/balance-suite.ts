import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatTable } from '../src/cli/table.ts'
import {
  balanceManifests,
  balanceServices,
  balanceSlice,
  endpointAddresses,
  weightOf,
  type BalanceService,
} from './balance-services.ts'
import { contenderNames, type Contender } from './contender-names.ts'
import { startContender } from './contender.ts'
import { ControlPlane } from './control-plane.ts'
import { chiSquare } from './statistics.ts'
import type { Suite, SuiteContext } from './suite.ts'
import { TrafficLab, type TrafficNode } from './traffic-lab.ts'

/** Connections to each Service. */
const connections = { quick: 1000, normal: 5000, full: 20_000 } as const
/** Of a right distribution one in a thousand looks worse: less than that is a fault. */
const leastP = 0.001

/** How connections are spread over endpoints. */
export const balanceSuite: Suite = {
  name: 'balance',
  measures:
    'how connections are spread over endpoints: evenly, by weight, by client (sessionAffinity), and by Maglev hash: what moves when an endpoint goes',
  why: 'An uneven spread overloads one pod while others idle, and a client that loses its endpoint loses its session.',
  byDefault: true,
  heeds: ['modes', 'peers'],
  estimate: (options) => contenders(options).length * (4 + (connections[options.scale] * 4) / 4000),
  async run(context) {
    const { options, recorder, progress, signal } = context
    await using stack = new AsyncDisposableStack()
    const folder = mkdtempSync(join(tmpdir(), 'balance-'))
    stack.defer(() => rmSync(folder, { recursive: true, force: true }))
    const manifests = join(folder, 'manifests')
    balanceManifests(manifests)
    const lab = stack.use(await TrafficLab.open(process.env['PATH'] ?? ''))
    const plane = stack.use(await ControlPlane.open(lab, { folder: join(folder, 'api'), manifests }))
    const all = contenders(options)
    const rows: string[][] = []
    for (const [index, contender] of all.entries()) {
      signal.throwIfAborted()
      const { name } = contender
      progress.say(`balance: ${name}`, index / all.length)
      try {
        using lane = await lab.addNode()
        await using running = await startContender(contender, {
          lab,
          lane,
          plane,
          folder: join(folder, name),
          probe: { ip: balanceServices.even.ip, port: 80 },
          options,
          signal,
        })
        rows.push([name, ...(await measure(context, { lab, plane, lane, name, folder, running }))])
      } catch (error) {
        signal.throwIfAborted()
        recorder.fail(name, error)
      }
    }
    const head = ['mode', 'even: p', 'weights: p', 'sticky', 'Maglev: p', 'Maglev: moved when 1 of 5 went']
    recorder.print(`${formatTable(head, rows)}\np: how likely a right spread is to look this uneven (chi-square).`)
  },
}

function contenders(options: SuiteContext['options']): ReturnType<typeof contenderNames> {
  return contenderNames(options).filter(({ mode }) => mode !== 'direct')
}

interface Stage {
  readonly lab: TrafficLab
  readonly plane: ControlPlane
  readonly lane: TrafficNode
  readonly name: string
  readonly folder: string
  readonly running: Contender
}

/** Measures all Services, and returns the cells of a row. */
async function measure(context: SuiteContext, stage: Stage): Promise<string[]> {
  const even = await spread(context, stage, balanceServices.even)
  const weighted = await spread(context, stage, balanceServices.weighted)
  return [even, weighted, await stickiness(context, stage), ...(await maglev(context, stage))]
}

/** Connects, and counts who answered. */
async function answers(
  context: SuiteContext,
  { lab, lane }: Stage,
  service: BalanceService,
): Promise<readonly string[]> {
  const reply = await lab.ask({
    kind: 'connect',
    netns: lane.client.path,
    protocol: 'tcp',
    ip: service.ip,
    port: 80,
    count: connections[context.options.scale],
    timeoutMs: 1000,
  })
  const failed = Object.entries(reply.failures)
  if (failed.length > 0)
    throw new Error(`${service.name}: ${failed.map(([code, count]) => `${count} x ${code}`).join(', ')}`)
  return reply.answers ?? []
}

async function spread(context: SuiteContext, stage: Stage, service: BalanceService): Promise<string> {
  const { recorder } = context
  const found = await answers(context, stage, service)
  const ips = endpointAddresses(service)
  const observed = ips.map((ip) => found.filter((answer) => answer === ip).length)
  const weights = ips.map((_, k) => weightOf(service, k))
  const total = weights.reduce((a, b) => a + b, 0)
  const { p } = chiSquare(
    observed,
    weights.map((weight) => (found.length * weight) / total),
  )
  const { name: mode } = stage
  const shown = service === balanceServices.even ? 'share of an endpoint' : `share of an endpoint (${service.name})`
  for (const [k, count] of observed.entries()) {
    const labels = { endpoint: String(k + 1) }
    recorder.add(
      { figure: shown, unit: '%', kind: 'share', better: 'neither', mode, labels },
      (count / found.length) * 100,
    )
  }
  recorder.add(
    { figure: 'chi-square p', unit: '', kind: 'share', better: 'neither', mode, labels: { service: service.name } },
    p,
  )
  const seen = `${observed.join(', ')} of ${found.length}, p = ${p.toPrecision(2)}`
  // Weights and Maglev are annotations of ours: another proxy does not know them.
  if (service === balanceServices.even || !isPeer(context, mode))
    recorder.claim(`${mode}: connections to the ${service.name} Service are spread as they should be`, p > leastP, seen)
  return p < leastP ? `< ${leastP} (${observed.join('/')})` : p.toPrecision(2)
}

async function stickiness(context: SuiteContext, stage: Stage): Promise<string> {
  const found = new Set(await answers(context, stage, balanceServices.sticky))
  context.recorder.claim(
    `${stage.name}: one client stays at one endpoint (sessionAffinity: ClientIP)`,
    found.size === 1,
    `${found.size} endpoints answered`,
  )
  return found.size === 1 ? 'yes' : `no (${found.size} endpoints)`
}

/** Each client address has one hash, so the clients are many addresses of a network of their own. */
async function maglev(context: SuiteContext, stage: Stage): Promise<string[]> {
  const { recorder, signal } = context
  const { name: mode } = stage
  const service = balanceServices.maglev
  if (isPeer(context, mode)) {
    recorder.skip(`${mode}: Maglev`, 'another proxy does not know the annotation')
    return ['', '']
  }
  const ips = endpointAddresses(service)
  const [gone = ''] = ips
  const before = await answersBySource(stage, service)
  const { p } = chiSquare(
    ips.map((ip) => before.filter((answer) => answer === ip).length),
    ips.map(() => before.length / ips.length),
  )
  await changeSlice(stage, service, ips.slice(1))
  let after = await answersBySource(stage, service)
  for (let left = 100; left > 0 && after.includes(gone); left--) {
    signal.throwIfAborted()
    await sleep(100)
    after = await answersBySource(stage, service)
  }
  await changeSlice(stage, service, ips)
  if (after.includes(gone))
    throw new Error(stage.running.ended() ?? 'an endpoint that went still gets connections after 10 s')
  const stayed = before.flatMap((answer, client) => (answer === gone ? [] : [{ answer, client }]))
  const moved = stayed.filter(({ answer, client }) => after[client] !== answer).length
  const share = (moved / stayed.length) * 100
  recorder.add({ figure: 'clients that Maglev moved', unit: '%', kind: 'share', better: 'less', mode }, share)
  const text = `${mode}: Maglev moves less than 10 % of the clients of other endpoints when one of five goes`
  recorder.claim(text, share < 10, `${moved} of ${stayed.length}`)
  return [p.toPrecision(2), `${share.toFixed(1)} %`]
}

/** Who answers each of 250 clients. */
async function answersBySource({ lab, lane }: Stage, service: BalanceService): Promise<readonly string[]> {
  const { answers = [], failures } = await lab.ask({
    kind: 'connect',
    netns: lane.client.path,
    protocol: 'tcp',
    ip: service.ip,
    port: 80,
    count: 250,
    timeoutMs: 1000,
    sources: lane.sources,
  })
  if (answers.length < 250) throw new Error(`${service.name}: ${JSON.stringify(failures)}`)
  return answers
}

async function changeSlice({ folder, plane }: Stage, service: BalanceService, ips: readonly string[]): Promise<void> {
  const file = join(folder, 'change.yaml')
  writeFileSync(file, balanceSlice(service, ips))
  await plane.change(file)
}

function isPeer({ options }: SuiteContext, name: string): boolean {
  return options.peers.some((peer) => peer.name === name)
}
