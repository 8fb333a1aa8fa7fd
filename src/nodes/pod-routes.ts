import { BoundedRunner } from '../base/bounded-runner.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { formatCidr } from '../net/cidr.ts'
import { addRoute, deleteRoute, replaceRoute, RT_TABLE_MAIN, type Route } from '../rtnetlink/routes.ts'
import type { Rtnetlink } from '../rtnetlink/rtnetlink.ts'
import { planPodRoutes, type LinkNetwork, type PodRoute, type RouteFacts, type RoutePlan } from './plan-pod-routes.ts'

/** Whose routes they are (rtm_protocol), so that they are found again by anybody; 102 is that of our bridges' rules. */
export const podRouteProtocol = 103

/** What {@link PodRoutes} needs. */
export interface PodRoutesOptions {
  readonly rtnetlink: Rtnetlink
  /** What is to be had now. */
  readonly facts: () => Omit<RouteFacts, 'links'>
  /** Links by which no other node is reached: our bridges and their ports, of which there are many. */
  readonly isOwnLink: (name: string) => boolean
  /** False: routes are somebody else's; only what can be said about them is. */
  readonly enabled: boolean
  /** Told of the first plan, and when it changed, before routes are written: the firewall opens first. */
  readonly onPlan: (plan: RoutePlan) => Promise<void>
  readonly clock: Clock
  readonly log: Log
}

/** Routes to the pods of other nodes, in the kernel, kept there. Dispose it to stop looking; the routes stay. */
export class PodRoutes implements AsyncDisposable {
  readonly #options: PodRoutesOptions
  readonly #runner: BoundedRunner
  #plan: RoutePlan | undefined
  /** Destinations that somebody else has a route for. */
  #blocked: readonly string[] = []
  #told = new Set<string>()
  #written: ReadonlySet<string> = new Set()
  #repairs = 0

  constructor(options: PodRoutesOptions) {
    this.#options = options
    this.#runner = new BoundedRunner({
      run: () => this.#sync(),
      clock: options.clock,
      maxIntervalMs: 60_000,
      onError: (error, { failures, retryInMs }) =>
        options.log.error({ err: error, failures, retryInMs }, 'Cannot write routes to other nodes, trying again'),
    })
  }

  /** Routes as they should be now. */
  get routes(): readonly PodRoute[] {
    return this.#plan?.routes ?? []
  }

  /** Sentences for people, about single nodes. */
  get problems(): readonly string[] {
    return [...(this.#plan?.problems ?? []), ...this.#blocked]
  }

  /** How often routes were put back. */
  get repairs(): number {
    return this.#repairs
  }

  /** The nodes, or this one's networks, have changed. */
  update(): void {
    this.#runner.request()
  }

  /** Notices, from now on, what others do to links and routes. */
  follow(): void {
    const { rtnetlink, isOwnLink, log } = this.#options
    const lost = (error: Error): void => {
      log.warn({ err: error }, 'Netlink notifications were lost, looking at all routes')
      this.#runner.request()
    }
    rtnetlink.watchRoutes(({ kind, route }) => {
      if (kind === 'deleted' && route.protocol === podRouteProtocol) this.#runner.request()
      // One of somebody else stands in for ours, or stood in its way.
      else if (this.routes.some(({ destination }) => formatCidr(destination) === formatCidr(route.destination))) {
        if (route.protocol !== podRouteProtocol) this.#runner.request()
      }
    }, lost)
    // The kernel drops routes with the link and the address that they stand on, and says nothing of it.
    rtnetlink.watchLinks(({ link }) => !isOwnLink(link.name) && this.#runner.request(), lost)
    rtnetlink.watchAddresses(({ address }) => address.scope === 'global' && this.#runner.request(), lost)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#runner.stop()
    await this.#runner.settled()
  }

  async #sync(): Promise<void> {
    const { rtnetlink, facts, enabled, onPlan, isOwnLink } = this.#options
    // What can be gone through once only is looked at twice here.
    const given = facts()
    const wanted = { ...given, nodes: [...given.nodes] }
    const before = this.#plan
    // A machine by itself is done.
    if (before?.addresses.length === 0 && before.pods.length === 0 && wanted.nodes.length < 2) return
    const planned = planPodRoutes({ ...wanted, links: await readLinks(rtnetlink, isOwnLink) })
    const plan = enabled ? planned : { ...planned, routes: [], problems: [] }
    if (JSON.stringify(plan) !== JSON.stringify(before)) await onPlan(plan)
    this.#plan = plan
    const present = (await rtnetlink.routes.list({ table: RT_TABLE_MAIN })).filter(({ type }) => type === 'unicast')
    const { add, replace, remove, blocked } = diffRoutes(plan.routes, present)
    // Each by itself: one that the kernel refuses (a link that goes down just now) keeps no other from its place.
    const results = await rtnetlink.runEach([
      ...remove.map((route) => deleteRoute(kernelRoute(route))),
      ...[...add, ...replace].map((route) => (add.includes(route) ? addRoute : replaceRoute)(toKernel(route))),
    ])
    this.#note(plan, { add, remove, blocked })
    const failed = results.filter((result) => result instanceof Error)
    if (failed.length > 0) throw new AggregateError(failed, failed.map(({ message }) => message).join('; '))
    this.#written = new Set(plan.routes.map(keyOf))
  }

  #note(plan: RoutePlan, done: Pick<RouteChanges, 'add' | 'remove' | 'blocked'>): void {
    const { log } = this.#options
    const repaired = done.add.filter((route) => this.#written.has(keyOf(route)))
    for (const route of done.add) {
      const { node, via, link } = route
      const fields = { node, destination: formatCidr(route.destination), via, link }
      if (repaired.includes(route)) log.warn(fields, `Repaired what another program changed: the route to ${node}`)
      else log.info(fields, `The pods of ${node} are reached by ${via}`)
    }
    if (repaired.length > 0) this.#repairs++
    for (const route of done.remove) log.info({ destination: formatCidr(route.destination) }, 'Removed a route to pods')
    this.#blocked = done.blocked.map(
      ({ node, destination }) =>
        `${node}: somebody else has a route for ${formatCidr(destination)}, which is left alone`,
    )
    const problems = [...plan.problems, ...this.#blocked]
    for (const problem of problems) if (!this.#told.has(problem)) log.warn({}, problem)
    this.#told = new Set(problems)
  }
}

/** Removes the routes to other nodes' pods, by their protocol. Returns what was removed, in words. */
export async function removePodRoutes(rtnetlink: Rtnetlink): Promise<string[]> {
  const routes = await rtnetlink.routes.list({ table: RT_TABLE_MAIN, protocol: podRouteProtocol })
  await rtnetlink.run(routes.map((route) => deleteRoute(kernelRoute(route))))
  return routes.map(({ destination, via }) => `route to ${formatCidr(destination)} via ${via}`)
}

interface RouteChanges {
  readonly add: readonly PodRoute[]
  readonly replace: readonly PodRoute[]
  readonly remove: readonly Route[]
  /** Not written: another's route for the same destination is there. */
  readonly blocked: readonly PodRoute[]
}

/** What is to be done so that the main table has the routes. Pure. */
export function diffRoutes(wanted: readonly PodRoute[], present: readonly Route[]): RouteChanges {
  const ours = new Map<string, Route>()
  const others = new Set<string>()
  for (const route of present) {
    const key = formatCidr(route.destination)
    if (route.protocol === podRouteProtocol) ours.set(key, route)
    else others.add(key)
  }
  const add: PodRoute[] = []
  const replace: PodRoute[] = []
  const blocked: PodRoute[] = []
  for (const route of wanted) {
    const key = formatCidr(route.destination)
    const there = ours.get(key)
    ours.delete(key)
    if (others.has(key)) blocked.push(route)
    else if (!there) add.push(route)
    else if (there.via !== route.via || there.dev !== route.dev) replace.push(route)
  }
  return { add, replace, remove: [...ours.values()], blocked }
}

/** Links that lead elsewhere, with their addresses. Secondary and link-local addresses make no neighbours of nodes. */
async function readLinks(rtnetlink: Rtnetlink, isOwnLink: (name: string) => boolean): Promise<LinkNetwork[]> {
  const [links, addresses] = await Promise.all([rtnetlink.links.list(), rtnetlink.addresses.list()])
  const usable = new Map(
    links.flatMap(({ index, name, up, loopback }) => (up && !loopback && !isOwnLink(name) ? [[index, name]] : [])),
  )
  return addresses.flatMap(({ link: index, address, scope }) => {
    const link = usable.get(index)
    return link === undefined || scope !== 'global' ? [] : [{ index, link, address }]
  })
}

function toKernel({ destination, via, dev }: PodRoute) {
  return { destination, via, dev, protocol: podRouteProtocol }
}

function kernelRoute({ destination, via, dev, metric }: Route) {
  return {
    destination,
    protocol: podRouteProtocol,
    ...(via !== undefined && { via }),
    ...(dev !== undefined && { dev }),
    ...(metric !== undefined && { metric }),
  }
}

function keyOf({ destination, via, dev }: PodRoute): string {
  return `${formatCidr(destination)} ${via} ${dev}`
}
