import { ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { parseLegacyIp } from '../net/legacy-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { parsePort } from '../net/port.ts'
import { parseProtocol } from '../net/protocol.ts'
import type { Endpoint, EndpointPort, EndpointSlice } from './endpoint-slice.ts'
import { readWeights, type WeightOf } from './endpoint-weight.ts'
import { refuseSpecialAddress } from './endpoint-address.ts'
import { ManifestError, type FieldProblem } from './manifest-error.ts'
import { exact, ManifestReader, show, type ReadOptions } from './manifest-reader.ts'
import { parseLabelName, parsePortName, parseSubdomainName } from './names.ts'
import { readMetadata } from './read-metadata.ts'

/** The label that ties a slice to its Service (discovery/v1). */
export const serviceNameLabel = 'kubernetes.io/service-name'

/** The label of slices that proxies do not look at, whatever its value (kube-proxy's watch leaves them out). */
const headlessLabel = 'service.kubernetes.io/headless'

/** What came out of an EndpointSlice manifest. */
export type ParsedEndpointSlice =
  /** `problems` are of single ports and endpoints, which are left out, and of weights, which then do not count; the rest stays served. */
  | { readonly kind: 'slice'; readonly slice: EndpointSlice; readonly problems: readonly FieldProblem[] }
  /** Well-formed, but nothing that a node can use. */
  | { readonly kind: 'skipped'; readonly problem: FieldProblem }

const noHints: Endpoint['hints'] = Object.freeze({ zones: Object.freeze([]), nodes: Object.freeze([]) })

/** Turns an EndpointSlice (discovery.k8s.io/v1) manifest into the model. Throws {@link ManifestError}. */
export function parseEndpointSlice(manifest: unknown, options?: ReadOptions): ParsedEndpointSlice {
  const reader = ManifestReader.of(manifest, options)
  const metadata = readMetadata(reader, parseSubdomainName)
  const addressType = reader.oneOf('addressType', ['IPv4', 'IPv6', 'FQDN'])
  if (!reader.has('addressType')) reader.fail('addressType', 'is missing (expected IPv4 or IPv6)')
  const serviceName = reader.object('metadata').object('labels').parsedText(serviceNameLabel, parseLabelName)
  const refuseIfWrong = () => {
    if (reader.problems.length === 0) return
    throw new ManifestError(`EndpointSlice ${metadata.namespace}/${metadata.name}`, reader.problems)
  }
  refuseIfWrong()
  if (addressType === 'FQDN') return skipped('addressType', 'FQDN slices have no meaning to a node')
  if (serviceName === undefined) {
    return skipped('metadata.labels', `has no ${serviceNameLabel}, so the slice belongs to no Service`)
  }
  const family = addressType === 'IPv6' ? 6 : 4
  const problems: FieldProblem[] = []
  const weightOf = readWeights(reader.object('metadata').texts('annotations'), problems)
  const slice: EndpointSlice = {
    namespace: metadata.namespace,
    name: metadata.name,
    serviceName,
    ...(Object.hasOwn(metadata.labels, headlessLabel) && { headless: true }),
    family,
    ports: readPorts(reader, problems),
    endpoints: readEndpoints(reader, { family, problems, weightOf }),
  }
  refuseIfWrong()
  return { kind: 'slice', slice, problems }
}

function skipped(path: string, reason: string): ParsedEndpointSlice {
  return { kind: 'skipped', problem: { path, reason } }
}

/**
 * A port that is null or 0 means "all ports" to some controllers and nothing to a proxy: it is left out. So is a wrong one, as a
 * problem: the others are served.
 */
function readPorts(reader: ManifestReader, problems: FieldProblem[]): readonly EndpointPort[] {
  const ports: EndpointPort[] = []
  for (const entry of reader.objects('ports', () => [])) {
    const name = entry.parsedText('name', parsePortName) ?? ''
    const protocol = entry.parsedText('protocol', parseProtocol) ?? 'tcp'
    const port = entry.raw('port') === 0 ? undefined : entry.parsed('port', parsePort)
    if (entry.problems.length > 0) problems.push(...entry.problems)
    else if (port !== undefined) ports.push({ name, protocol, port })
  }
  return exact(ports)
}

function readEndpoints(
  reader: ManifestReader,
  context: { family: IpFamily; problems: FieldProblem[]; weightOf: WeightOf },
): readonly Endpoint[] {
  const endpoints: Endpoint[] = []
  for (const entry of reader.objects('endpoints', () => [])) {
    const endpoint = readEndpoint(entry, context)
    if (endpoint !== undefined && entry.problems.length === 0) endpoints.push(endpoint)
    else context.problems.push(...entry.problems)
  }
  return exact(endpoints)
}

function readEndpoint(
  entry: ManifestReader,
  { family, weightOf }: { family: IpFamily; weightOf: WeightOf },
): Endpoint | undefined {
  const addresses = entry.parsedTexts('addresses', (text) => parseEndpointAddress(text, family), { most: 1 })
  if (entry.list('addresses').length === 0) entry.fail('addresses', 'is empty (expected an address)')
  const conditions = entry.object('conditions')
  const targetRef = entry.has('targetRef') ? entry.object('targetRef') : undefined
  const hints = entry.has('hints') ? readHints(entry.object('hints')) : noHints
  const address = addresses[0]
  const ready = conditions.boolean('ready') ?? true
  const serving = conditions.boolean('serving') ?? true
  const terminating = conditions.boolean('terminating') ?? false
  const hostname = entry.parsedText('hostname', parseLabelName)
  const nodeName = entry.text('nodeName')
  const zone = entry.text('zone')
  const targetPod = targetRef?.raw('kind') === 'Pod' ? targetRef.text('name') : undefined
  if (address === undefined) return undefined
  const weight = weightOf(address)
  const known = { address, hostname, nodeName, zone, ready, serving, terminating, hints, targetPod }
  return weight === undefined ? known : { ...known, weight }
}

function readHints(hints: ManifestReader): Endpoint['hints'] {
  const names = (key: string): readonly string[] => {
    const result: string[] = []
    for (const entry of hints.objects(key)) {
      const name = entry.text('name')
      if (name !== undefined) result.push(name)
    }
    return result
  }
  const zones = names('forZones')
  const nodes = names('forNodes')
  return zones.length === 0 && nodes.length === 0 ? noHints : { zones, nodes }
}

/** An address that traffic may be sent to. */
function parseEndpointAddress(text: string, family: IpFamily): IpAddress {
  let ip: IpAddress
  try {
    ip = parseLegacyIp(text)
  } catch (cause) {
    throw new ParseError(`${show(text)} is not an IPv${family} address`, { cause })
  }
  if (ipFamilyOf(ip) !== family) throw new ParseError(`"${text}" is not an IPv${family} address (see addressType)`)
  refuseSpecialAddress(ip)
  return ip
}
