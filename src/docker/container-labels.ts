import { parseEndpointIp } from '../model/endpoint-address.ts'
import { readWeights } from '../model/endpoint-weight.ts'
import type { FieldProblem } from '../model/manifest-error.ts'
import { parseLabelName } from '../model/names.ts'
import { ipFamilyOf, parseIp, type IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { parsePort, type Port } from '../net/port.ts'
import { parseProtocol, type Protocol } from '../net/protocol.ts'
import type { Container } from './container.ts'

/** A port of the Service, and where the container has it. */
export interface PortWish {
  /** `tcp-80`, unless it was given one. */
  readonly name: string
  readonly protocol: Protocol
  readonly port: Port
  readonly target: Port
}

/** What the labels of a container ask for. */
export interface ContainerWish {
  readonly namespace: string
  /** Undefined: it is a pod for the selectors of other Services, and has none of its own. */
  readonly service: string | undefined
  readonly ports: readonly PortWish[]
  /** Which of its networks it is reached by; undefined: the first by name. */
  readonly network: string | undefined
  /** Where it is reached instead. */
  readonly addresses: readonly IpAddress[]
  readonly weight: string | undefined
  /** `None`: no address of its own, its name leads to the containers. */
  readonly clusterIP: IpAddress | 'None' | undefined
  readonly nodePort: Port | undefined
  readonly sessionAffinity: 'None' | 'ClientIP' | undefined
}

const prefix = 'fairlead.'
const known = 'enable service namespace port protocol network address weight cluster-ip node-port session-affinity'
  .split(' ')
  .map((name) => prefix + name)

const composeProject = 'com.docker.compose.project'
const composeService = 'com.docker.compose.service'

/** Ports of one container; as many as an EndpointSlice has. Images of telephony expose ten thousands, which nobody wants as a Service. */
const maxPorts = 100

/** `fairlead.port`, but not `fairlead.dev/weight`, which is a label of Kubernetes' form. */
export function isOurs(label: string): boolean {
  return label.startsWith(prefix) && !label.includes('/')
}

/** Whether a container with these labels wants anything of us. */
export function isForUs(labels: Readonly<Record<string, string>>): boolean {
  return Object.keys(labels).some(isOurs)
}

/**
 * Reads the labels of a container. A container of compose is in the namespace that its project is called, and its Service is
 * called as compose calls it, unless its labels say otherwise. Undefined: it is not enabled, or its labels are wrong; then
 * `problems` says how.
 */
export function readContainerLabels(
  { labels, exposed }: Pick<Container, 'labels' | 'exposed'>,
  problems: FieldProblem[],
): ContainerWish | undefined {
  const before = problems.length
  const read = <T>(name: string, parse: (text: string) => T): T | undefined => {
    const path = prefix + name
    const text = labels[path]?.trim()
    if (text === undefined) return undefined
    try {
      return parse(text)
    } catch (error) {
      if (!(error instanceof ParseError)) throw error
      problems.push({ path, reason: error.message })
      return undefined
    }
  }
  for (const label of Object.keys(labels)) {
    if (!isOurs(label) || known.includes(label)) continue
    problems.push({ path: label, reason: `is not known here (expected one of ${known.join(', ')})` })
  }
  const enabled = read('enable', (text) => parseWord(text, ['true', 'false'])) ?? 'true'
  if (enabled === 'false') return undefined
  const { [composeProject]: project, [composeService]: composed } = labels
  const protocol = read('protocol', parseProtocol) ?? 'tcp'
  const clusterIP = read('cluster-ip', (text) => (text === 'None' ? text : parseIp(text)))
  const given = read('port', (text) => parsePorts(text, protocol))
  const tooMany = given === undefined && exposed.length > maxPorts
  const ports = given ?? (tooMany ? [] : exposedPorts(exposed, protocol))
  const named = read('service', parseLabelName) ?? (composed === undefined ? undefined : labelOf(composed))
  const wants = labels['fairlead.service'] !== undefined || labels['fairlead.port'] !== undefined
  if (wants && named === undefined && labels['fairlead.service'] === undefined) {
    problems.push({ path: 'fairlead.service', reason: 'is missing (expected beside fairlead.port)' })
  }
  if (wants && ports.length === 0 && clusterIP !== 'None' && labels['fairlead.port'] === undefined) {
    const exposes = tooMany ? `${exposed.length} ports (expected at most ${maxPorts})` : 'no port'
    problems.push({ path: 'fairlead.port', reason: `is missing, and the image exposes ${exposes}` })
  }
  const wish: ContainerWish = {
    namespace: read('namespace', parseLabelName) ?? (project === undefined ? 'default' : labelOf(project)),
    service: wants || ports.length > 0 ? named : undefined,
    ports,
    network: read('network', (text) => text),
    addresses: read('address', parseAddresses) ?? [],
    weight: read('weight', parseWeight),
    clusterIP,
    nodePort: read('node-port', parsePortText),
    sessionAffinity: read('session-affinity', (text) => parseWord(text, ['None', 'ClientIP'])),
  }
  return problems.length > before ? undefined : wish
}

/** A name of Docker's or of compose as one of Kubernetes: small letters, and `-` for what is neither letter nor digit. */
export function labelOf(name: string): string {
  const label = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, 63)
    .replaceAll(/^-+|-+$/g, '')
  return label === '' ? 'x' : label
}

/** `80`, `80:8080/tcp`, `http=80:8080,metrics=9090`. */
function parsePorts(text: string, protocol: Protocol): readonly PortWish[] {
  const parts = text.split(',')
  if (parts.length > maxPorts) throw new ParseError(`names ${parts.length} ports (expected at most ${maxPorts})`)
  const ports = parts.map((part) => parsePortWish(part, protocol))
  for (const [index, one] of ports.entries()) {
    const other = ports.slice(0, index).find((other) => other.port === one.port && other.protocol === one.protocol)
    if (other) throw new ParseError(`"${text}" has ${one.port}/${one.protocol} twice`)
    if (ports.slice(0, index).some(({ name }) => name === one.name)) {
      throw new ParseError(`"${text}" has the name "${one.name}" twice`)
    }
  }
  return ports
}

function exposedPorts(exposed: readonly string[], protocol: Protocol): readonly PortWish[] {
  return exposed.flatMap((text) => (/^\d+\/(tcp|udp|sctp)$/.test(text) ? parsePortWish(text, protocol) : []))
}

function parsePortWish(text: string, fallback: Protocol): PortWish {
  const form = /^(?:([^=:/]+)=)?(?:(\d+):)?(\d+)(?:\/([a-zA-Z]+))?$/.exec(text.trim())
  if (!form) throw new ParseError(`"${text.trim()}" is not a port (expected [NAME=][PORT:]CONTAINER-PORT[/PROTOCOL])`)
  const [, name, outer, inner = '', proto] = form
  const protocol = proto === undefined ? fallback : parseProtocol(proto)
  const target = parsePortText(inner)
  const port = outer === undefined ? target : parsePortText(outer)
  return { name: name === undefined ? `${protocol}-${port}` : parseLabelName(name.trim()), protocol, port, target }
}

function parsePortText(text: string): Port {
  if (/^\d{1,5}$/.test(text)) return parsePort(Number(text))
  throw new ParseError(`"${text}" is not a port (expected a whole number from 1 to 65535)`)
}

function parseAddresses(text: string): readonly IpAddress[] {
  const ips = text.split(',').map((part) => parseEndpointIp(part.trim()))
  if (new Set(ips.map((ip) => ipFamilyOf(ip))).size === ips.length) return ips
  throw new ParseError(`"${text}" has two addresses of one family (expected one per family at most)`)
}

function parseWeight(text: string): string {
  const problems: FieldProblem[] = []
  readWeights({ 'fairlead.dev/weight': text }, problems)
  const [problem] = problems
  if (problem) throw new ParseError(problem.reason.replace('; not counted', ''))
  return text
}

function parseWord<Word extends string>(text: string, words: readonly Word[]): Word {
  const word = words.find((word) => word === text)
  if (word !== undefined) return word
  throw new ParseError(`"${text}" is not known here (expected ${words.join(' or ')})`)
}
