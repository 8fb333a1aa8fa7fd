import { ManifestError, type FieldProblem } from '../model/manifest-error.ts'
import type { ManifestObject } from '../model/parse-manifest.ts'
import { parseService } from '../model/parse-service.ts'
import type { Pod } from '../model/pod.ts'
import type { Service } from '../model/service.ts'
import { ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { isOurs, labelOf, readContainerLabels, type ContainerWish, type PortWish } from './container-labels.ts'
import type { Container } from './container.ts'

/** The label by which a Service selects its containers' pods. */
const serviceLabel = 'fairlead.dev/service'

/** A container, and what only its events tell. */
export interface SeenContainer {
  readonly container: Container
  /** It was told to stop, and has not ended yet. */
  readonly terminating: boolean
}

/** What is wrong with the labels of a container. */
export interface ContainerProblem extends FieldProblem {
  readonly container: string
}

/** The objects that containers are. */
export interface ContainerObjects {
  readonly objects: readonly ManifestObject[]
  readonly problems: readonly ContainerProblem[]
}

interface Wisher extends SeenContainer {
  readonly wish: ContainerWish
}

/**
 * Makes a Pod of each running container with labels for us, and a Service of all that name the same one, stopped ones too: its
 * address stays while there is a container of it. Where two disagree about their Service, the older counts. Pure.
 */
export function describeContainers(
  containers: Iterable<SeenContainer>,
  { nodeName }: { readonly nodeName: string },
): ContainerObjects {
  const problems: ContainerProblem[] = []
  const report = ({ name }: Container, found: readonly FieldProblem[]): void => {
    for (const problem of found) problems.push({ ...problem, container: name })
  }
  const wishers: Wisher[] = []
  for (const seen of [...containers].toSorted(byAge)) {
    const found: FieldProblem[] = []
    const wish = readContainerLabels(seen.container, found)
    report(seen.container, found)
    if (wish) wishers.push({ ...seen, wish })
  }
  const pods = new Map<Wisher, Pod>()
  const names = new Set<string>()
  for (const wisher of wishers) {
    if (wisher.container.state === 'stopped') continue
    const found: FieldProblem[] = []
    const name = freeName(wisher, names)
    pods.set(wisher, describePod(wisher, { name, nodeName, problems: found }))
    report(wisher.container, found)
  }
  const services: Service[] = []
  const members = Map.groupBy(wishers, ({ wish }) => wish.service && `${wish.namespace}/${wish.service}`)
  for (const [key, group] of members) {
    if (key === undefined) continue
    const ips = group.flatMap((wisher) => pods.get(wisher)?.podIPs ?? [])
    services.push(
      ...describeService(group, {
        families: ([4, 6] as const).filter((f) => ips.some((ip) => ipFamilyOf(ip) === f)),
        report,
      }),
    )
  }
  const objects: ManifestObject[] = [
    ...[...pods.values()].map((value) => ({ kind: 'Pod' as const, value })),
    ...services.map((value) => ({ kind: 'Service' as const, value })),
  ]
  return { objects, problems }
}

function byAge(a: SeenContainer, b: SeenContainer): number {
  const [one, other] = [a.container, b.container].map(({ created, id }) => `${created} ${id}`)
  return (one ?? '') < (other ?? '') ? -1 : 1
}

/** Two names of Docker's can be one of ours (`a_b`, `a-b`): the younger container's then ends in its id. */
function freeName({ container, wish }: Wisher, names: Set<string>): string {
  const plain = labelOf(container.name)
  const name = names.has(`${wish.namespace}/${plain}`)
    ? `${plain.slice(0, 50).replace(/-+$/, '')}-${container.id.slice(0, 12)}`
    : plain
  names.add(`${wish.namespace}/${name}`)
  return name
}

function describePod(
  { container, wish, terminating }: Wisher,
  context: { readonly name: string; readonly nodeName: string; readonly problems: FieldProblem[] },
): Pod {
  const { service, namespace, weight, ports } = wish
  const labels = Object.entries(container.labels).filter(([key, value]) => isLabel(key, value))
  return {
    namespace,
    name: context.name,
    labels: { ...Object.fromEntries(labels), ...(service !== undefined && { [serviceLabel]: service }) },
    annotations: weight === undefined ? {} : { 'fairlead.dev/weight': weight },
    nodeName: context.nodeName,
    hostname: context.name,
    subdomain: service,
    hostNetwork: container.networkMode === 'host',
    podIPs: addressesOf(container, wish, context.problems),
    phase: 'Running',
    ready: container.state === 'running' && (container.health === 'none' || container.health === 'healthy'),
    terminating,
    ports: ports.map(({ protocol, port, target }) => ({
      name: targetName({ protocol, port }),
      protocol,
      port: target,
    })),
  }
}

/** Each container of a Service may have another port for it: the Service names it, and the pods say which it is. */
function targetName({ protocol, port }: Pick<PortWish, 'protocol' | 'port'>): string {
  return `${protocol}-${port}`
}

function isLabel(key: string, value: string): boolean {
  if (isOurs(key)) return false
  const name = '[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?'
  return new RegExp(`^([a-z0-9.-]{1,253}/)?${name}$`).test(key) && new RegExp(`^(${name})?$`).test(value)
}

function addressesOf(container: Container, wish: ContainerWish, problems: FieldProblem[]): readonly IpAddress[] {
  if (wish.addresses.length > 0) return onePerFamily(wish.addresses)
  const { networks, networkMode, labels } = container
  const fail = (path: string, reason: string): readonly IpAddress[] => {
    problems.push({ path, reason })
    return []
  }
  if (wish.network !== undefined) {
    // As compose has it in its file: `backend` of project `shop` is Docker's network `shop_backend`.
    const { 'com.docker.compose.project': project } = labels
    const ips = networks.get(wish.network) ?? networks.get(`${project}_${wish.network}`)
    if (ips) return onePerFamily(ips)
    const there = [...networks.keys()].join(', ') || 'none'
    return fail('fairlead.network', `"${wish.network}" is no network that it has an address in (it has: ${there})`)
  }
  const [first] = networks.values()
  if (first) return onePerFamily(first)
  return fail('', `has no address of its own in network ${networkMode}, and no traffic (fairlead.address may name one)`)
}

/** At most one of each family, IPv4 first as in Docker. */
function onePerFamily(ips: readonly IpAddress[]): readonly IpAddress[] {
  return ([4, 6] as const).flatMap((family) => ips.find((ip) => ipFamilyOf(ip) === family) ?? [])
}

type Report = (container: Container, found: readonly FieldProblem[]) => void

/** The Service of a group, the oldest first; none: what they ask for cannot be. */
function describeService(
  group: readonly Wisher[],
  { families, report }: { readonly families: readonly IpFamily[]; readonly report: Report },
): readonly Service[] {
  const { namespace, service: name = '' } = group[0]?.wish ?? { namespace: '' }
  const ports = mergePorts(group, report)
  const clusterIP = agreed(group, 'clusterIP', report)
  const nodePort = agreed(group, 'nodePort', report)
  const sessionAffinity = agreed(group, 'sessionAffinity', report)
  const headless = clusterIP === 'None'
  const manifest = {
    metadata: { namespace, name, creationTimestamp: group[0]?.container.created },
    spec: {
      selector: { [serviceLabel]: name },
      // A family that no container has would be an address that refuses everybody.
      ...(families.length > 0 && { ipFamilies: families.map((family) => `IPv${family}`) }),
      ipFamilyPolicy: families.length > 1 ? 'PreferDualStack' : 'SingleStack',
      ...(clusterIP !== undefined && { clusterIP }),
      ...(nodePort !== undefined && !headless && { type: 'NodePort' }),
      ...(sessionAffinity && { sessionAffinity }),
      ports: ports.map(({ name, protocol, port }, index) => ({
        name,
        protocol,
        port,
        targetPort: targetName({ protocol, port }),
        ...(index === 0 && nodePort !== undefined && !headless && { nodePort }),
      })),
    },
  }
  try {
    return [parseService(manifest)]
  } catch (error) {
    if (!(error instanceof ManifestError)) throw error
    for (const { container } of group.slice(0, 1)) report(container, error.problems)
    return []
  }
}

/** All ports that any container of the Service has. */
function mergePorts(group: readonly Wisher[], report: Report): readonly PortWish[] {
  const ports: PortWish[] = []
  for (const { container, wish } of group) {
    for (const port of wish.ports) {
      const there = ports.find((other) => other.port === port.port && other.protocol === port.protocol)
      if (there && there.name !== port.name) {
        report(container, [disagreement('fairlead.port', port.name, there.name)])
      } else if (!there && ports.some((other) => other.name === port.name)) {
        report(container, [disagreement('fairlead.port', `${port.name}=${port.port}`, 'another port of that name')])
      } else if (!there) ports.push(port)
    }
  }
  return ports
}

/** What the first container says that says anything. */
function agreed<Key extends 'clusterIP' | 'nodePort' | 'sessionAffinity'>(
  group: readonly Wisher[],
  key: Key,
  report: Report,
): ContainerWish[Key] {
  const value = group.map(({ wish }) => wish[key]).find((one) => one !== undefined)
  const label = `fairlead.${key === 'clusterIP' ? 'cluster-ip' : key === 'nodePort' ? 'node-port' : 'session-affinity'}`
  for (const { container, wish } of group) {
    if (wish[key] === undefined || wish[key] === value) continue
    report(container, [disagreement(label, String(wish[key]), String(value))])
  }
  return value
}

function disagreement(path: string, mine: string, theirs: string): FieldProblem {
  return { path, reason: `"${mine}" is not what an older container of the Service says ("${theirs}", which counts)` }
}
