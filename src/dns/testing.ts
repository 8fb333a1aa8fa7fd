import { SharedMap } from '../base/shared-map.ts'
import type { EndpointSlice } from '../model/endpoint-slice.ts'
import { objectKey } from '../model/object-key.ts'
import type { Pod } from '../model/pod.ts'
import type { Service } from '../model/service.ts'
import type { Snapshot } from '../model/snapshot.ts'
import { nameText, readName } from '../dns-message/name.ts'
import { headerSize, read16, readQuestion } from '../dns-message/query.ts'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'

/** Short forms of objects, for test tables. Not used by the daemon. */
export interface ServiceSpec {
  /** Cluster IPs; none: headless. */
  readonly ips?: readonly string[]
  readonly externalName?: string
  /** `http/tcp/80`, or `/tcp/80` for a port without a name. */
  readonly ports?: readonly string[]
  /** Addresses of endpoints, with `name@` before and `!` after those that are not ready. */
  readonly endpoints?: readonly string[]
  readonly endpointPorts?: readonly string[]
  readonly publishNotReady?: boolean
}

/** A snapshot of Services by `namespace/name`. */
export function snapshotOf(
  services: Readonly<Record<string, ServiceSpec>>,
  options: { readonly namespaces?: readonly string[]; readonly pods?: readonly Pod[] } = {},
): Snapshot {
  const entries = Object.entries(services)
  return {
    services: SharedMap.from(entries.map(([key, spec]) => [key, makeService(key, spec)] as const)),
    slices: SharedMap.from(
      entries.filter(([, spec]) => spec.endpoints).map(([key, spec]) => [key, makeSlices(key, spec)] as const),
    ),
    pods: SharedMap.from((options.pods ?? []).map((pod) => [objectKey(pod), pod] as const)),
    nodes: SharedMap.empty(),
    networks: SharedMap.empty(),
    serviceCIDRs: SharedMap.empty(),
    namespaces: SharedMap.from((options.namespaces ?? []).map((name) => [name, { name, labels: {} }] as const)),
  }
}

export function makePod(
  key: string,
  { ips, phase = 'Running' }: { ips: readonly string[]; phase?: Pod['phase'] },
): Pod {
  return {
    ...splitKey(key),
    labels: {},
    annotations: {},
    nodeName: undefined,
    hostname: undefined,
    subdomain: undefined,
    hostNetwork: false,
    podIPs: ips.map(parseIp),
    phase,
    ready: true,
    terminating: false,
    ports: [],
  }
}

function makeService(key: string, spec: ServiceSpec): Service {
  return {
    ...splitKey(key),
    labels: {},
    annotations: {},
    creationTimestamp: undefined,
    type: spec.externalName === undefined ? 'ClusterIP' : 'ExternalName',
    clusterIPs: (spec.ips ?? []).map(parseIp),
    headless: spec.ips === undefined && spec.externalName === undefined,
    externalName: spec.externalName,
    selector: undefined,
    ports: makePorts(spec.ports).map((port) => ({
      ...port,
      targetPort: port.port,
      nodePort: undefined,
      appProtocol: undefined,
    })),
    externalIPs: [],
    loadBalancerIngress: [],
    loadBalancerSourceRanges: [],
    sessionAffinity: { kind: 'None' },
    internalTrafficPolicy: 'Cluster',
    externalTrafficPolicy: 'Cluster',
    healthCheckNodePort: undefined,
    publishNotReadyAddresses: spec.publishNotReady ?? false,
  }
}

/** One object for all, as sources have it. */
const noHints = { zones: [], nodes: [] }

/** One slice per family, as the EndpointSlice controller makes them. */
function makeSlices(key: string, spec: ServiceSpec): EndpointSlice[] {
  const { namespace, name } = splitKey(key)
  const endpoints = (spec.endpoints ?? []).map((text) => {
    const [, hostname, address = '', notReady] = /^(?:(.+)@)?([^!]+)(!?)$/.exec(text) ?? []
    return {
      address: parseIp(address),
      hostname,
      nodeName: undefined,
      zone: undefined,
      ready: notReady === '',
      serving: true,
      terminating: false,
      hints: noHints,
      targetPod: undefined,
    }
  })
  return ([4, 6] as const).map((family) => ({
    namespace,
    name: `${name}-v${family}`,
    serviceName: name,
    family,
    ports: makePorts(spec.endpointPorts ?? spec.ports),
    endpoints: endpoints.filter((endpoint) => endpoint.address.includes(':') === (family === 6)),
  }))
}

function makePorts(specs: readonly string[] = []) {
  return specs.map((spec) => {
    const [name = '', protocol = 'tcp', port = '0'] = spec.split('/')
    return { name, protocol: protocol as Protocol, port: parsePort(Number(port)) }
  })
}

function splitKey(key: string): { namespace: string; name: string } {
  const [namespace = '', name = ''] = key.split('/')
  return { namespace, name }
}

/** A response in which the records of each section are sorted, so that two of them can be compared whatever order sets were sent in. */
export function sortRotated(response: Buffer): string[] {
  const parts = [response.toString('hex', 0, headerSize)]
  if (read16(response, 4) === 0) return [...parts, response.toString('hex', headerSize)]
  let at = readQuestion(response).end
  parts.push(response.toString('hex', headerSize, at))
  for (const section of [6, 8, 10]) {
    const records: string[] = []
    for (let left = read16(response, section); left > 0; left--) {
      // What an owner is compressed against depends on the order.
      const { name, end } = readName(response, at)
      at = end + 10 + read16(response, end + 8)
      records.push(`${nameText(name)} ${response.toString('hex', end, at)}`)
    }
    parts.push(...records.toSorted())
  }
  return [...parts, response.toString('hex', at)]
}
