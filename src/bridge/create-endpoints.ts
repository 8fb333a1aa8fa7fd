import { addAddress } from '../rtnetlink/addresses.ts'
import { decodeLink } from '../rtnetlink/link.ts'
import { createVeth, getLink, setLink } from '../rtnetlink/link-requests.ts'
import type { NetlinkRequest } from '../netlink/netlink-socket.ts'
import { replaceRoute } from '../rtnetlink/routes.ts'
import { addRule } from '../rtnetlink/rules.ts'
import { explainFull } from './bridge-full.ts'
import type { BridgeKernel, NamespaceKernel } from './kernel.ts'
import { linkGroup } from './names.ts'
import { podSysctls, type EndpointPlan } from './plan.ts'
import { sourceRouting } from './source-routing.ts'
import { overwriteSysctls } from './write-sysctls.ts'

/** Endpoints in one datagram: their descriptors (two each) are open at the same time, and the kernel works on all at once. */
const batchSize = 64

/**
 * Builds endpoints: all pairs in one datagram, their far ends born in the namespaces; then everything inside each namespace
 * in one datagram of its own. One that fails does not stop the others: the results, in order, are undefined or the error
 * (NetlinkError, SysctlError, BridgeFullError, ENOENT for a namespace that is not there). A second attempt after a
 * failure must delete the port first.
 */
export async function createEndpoints(
  endpoints: readonly EndpointPlan[],
  kernel: BridgeKernel,
): Promise<(Error | undefined)[]> {
  const bridges = await indexesOf([...new Set(endpoints.map(({ bridge }) => bridge))], kernel)
  const results: (Error | undefined)[] = []
  for (let start = 0; start < endpoints.length; start += batchSize) {
    results.push(...(await createBatch(endpoints.slice(start, start + batchSize), { bridges, kernel })))
  }
  return results
}

/** Builds one endpoint. Throws what {@link createEndpoints} results in. */
export async function createEndpoint(endpoint: EndpointPlan, kernel: BridgeKernel): Promise<void> {
  const [error] = await createEndpoints([endpoint], kernel)
  if (error) throw error
}

interface Job {
  readonly endpoint: EndpointPlan
  namespace?: NamespaceKernel
  master?: number
  error?: Error
}

async function createBatch(
  endpoints: readonly EndpointPlan[],
  { bridges, kernel }: { bridges: ReadonlyMap<string, number | Error>; kernel: BridgeKernel },
): Promise<(Error | undefined)[]> {
  const jobs = endpoints.map((endpoint): Job => ({ endpoint }))
  using stack = new DisposableStack()
  for (const job of jobs) {
    const master = bridges.get(job.endpoint.bridge)
    if (typeof master !== 'number') {
      if (master) job.error = master
      continue
    }
    try {
      const namespace = kernel.openNamespace(job.endpoint.netns)
      stack.defer(() => namespace[Symbol.dispose]())
      job.namespace = namespace
      overwriteSysctls(podSysctls, job.namespace)
      job.master = master
    } catch (error) {
      job.error = error as Error
    }
  }
  const ready = jobs.filter((job): job is Job & { namespace: NamespaceKernel; master: number } => {
    return job.error === undefined && job.namespace !== undefined && job.master !== undefined
  })
  const requests = ready.map(({ endpoint, namespace, master }) => requestsForPair(endpoint, { namespace, master }))
  const answers = await kernel.rtnetlink.runEach(requests.flat())
  await Promise.all(
    ready.map(async (job, index) => {
      const own = answers.slice(index * requestsPerPair, (index + 1) * requestsPerPair)
      try {
        const [, , link] = throwFirst(own)
        const peer = decodeLink(link![0]!.payload).peerIndex
        if (peer === undefined) throw new Error(`veth ${job.endpoint.port} has no peer`)
        await job.namespace.rtnetlink.run(requestsInside(job.endpoint, peer))
      } catch (error) {
        job.error = explainFull(job.endpoint.bridge, error) as Error
      }
    }),
  )
  return jobs.map(({ error }) => error)
}

const requestsPerPair = 3

/** The alias cannot be given at birth; the answer to the last one tells the far end's index in its namespace. */
function requestsForPair(
  endpoint: EndpointPlan,
  { namespace, master }: { namespace: NamespaceKernel; master: number },
): NetlinkRequest[] {
  const { port, alias, link, mac, mtu, options } = endpoint
  const peer = { name: link, mac, ...(namespace.handle && { netns: namespace.handle }) }
  return [
    createVeth({ name: port, master, mtu, group: linkGroup, peer }),
    setLink(port, { alias, ...options }),
    getLink(port),
  ]
}

function requestsInside(endpoint: EndpointPlan, link: number): NetlinkRequest[] {
  const { addresses, routes } = endpoint
  const bySource = sourceRouting(endpoint, link)
  return [
    setLink('lo', { up: true }),
    setLink(link, { up: true }),
    ...addresses.map((address) => addAddress({ link, address })),
    ...[...routes, ...bySource.routes].map((route) => replaceRoute({ ...route, dev: link })),
    ...bySource.rules.map(addRule),
  ]
}

async function indexesOf(bridges: readonly string[], kernel: BridgeKernel): Promise<Map<string, number | Error>> {
  const answers = await kernel.rtnetlink.runEach(bridges.map(getLink))
  return new Map(
    bridges.map((bridge, index) => {
      const answer = answers[index]!
      return [bridge, answer instanceof Error ? answer : decodeLink(answer[0]!.payload).index]
    }),
  )
}

/** What comes after a failed creation in the same datagram fails as a consequence. */
function throwFirst<T>(results: readonly (T | Error)[]): T[] {
  for (const result of results) if (result instanceof Error) throw result
  return results as T[]
}
