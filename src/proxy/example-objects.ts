import { SharedMap } from '../base/shared-map.ts'
import type { Endpoint, EndpointSlice } from '../model/endpoint-slice.ts'
import { objectKey } from '../model/object-key.ts'
import type { Service, ServicePort } from '../model/service.ts'
import { emptySnapshot, type Snapshot } from '../model/snapshot.ts'
import { ipFamilyOf, parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'

/** Builders of model objects for tests and benchmarks, with short words for what usually stands in manifests. */

/** A Service in namespace `default`: `exampleService('web', { clusterIPs: ['10.96.0.5'], ports: ['80/tcp'] })`. */
export function exampleService(
  name: string,
  fields: {
    readonly clusterIPs?: readonly string[]
    /** `PORT/PROTOCOL` or `PORT:NODEPORT/PROTOCOL`, with `NAME=` in front where there are several. */
    readonly ports?: readonly string[]
    readonly externalIPs?: readonly string[]
  } & Partial<Omit<Service, 'clusterIPs' | 'ports' | 'externalIPs' | 'name'>> = {},
): Service {
  const ports = (fields.ports ?? ['80/tcp']).map(parseExamplePort)
  return {
    namespace: 'default',
    labels: {},
    annotations: {},
    creationTimestamp: undefined,
    type: ports.some((port) => port.nodePort !== undefined) ? 'NodePort' : 'ClusterIP',
    headless: false,
    externalName: undefined,
    selector: undefined,
    loadBalancerIngress: [],
    loadBalancerSourceRanges: [],
    sessionAffinity: { kind: 'None' },
    internalTrafficPolicy: 'Cluster',
    externalTrafficPolicy: 'Cluster',
    healthCheckNodePort: undefined,
    publishNotReadyAddresses: false,
    ...fields,
    name,
    clusterIPs: (fields.clusterIPs ?? ['10.96.0.1']).map(parseIp),
    externalIPs: (fields.externalIPs ?? []).map(parseIp),
    ports,
  }
}

/**
 * A slice of a Service. Endpoints are ready ones by address, or an address with fields. The family is the first
 * endpoint's.
 */
export function exampleSlice(
  service: Pick<Service, 'namespace' | 'name'>,
  endpoints: readonly (string | ({ readonly address: string } & Partial<Omit<Endpoint, 'address'>>))[],
  options: { readonly name?: string; readonly ports?: readonly string[] } = {},
): EndpointSlice {
  const full = endpoints.map((endpoint) => {
    const { address, ...fields } = typeof endpoint === 'string' ? { address: endpoint } : endpoint
    return { ...exampleEndpoint, ...fields, address: parseIp(address) }
  })
  const [first] = full
  return {
    namespace: service.namespace,
    name: options.name ?? `${service.name}-a`,
    serviceName: service.name,
    family: first ? ipFamilyOf(first.address) : 4,
    ports: (options.ports ?? ['8080/tcp']).map((text) => {
      const { name, protocol, port } = parseExamplePort(text)
      return { name, protocol, port }
    }),
    endpoints: full,
  }
}

/** A snapshot of Services, each with its slices. */
export function exampleSnapshot(objects: readonly (readonly [Service, ...EndpointSlice[]])[]): Snapshot {
  return {
    ...emptySnapshot,
    services: SharedMap.from(objects.map(([service]) => [objectKey(service), service] as const)),
    slices: SharedMap.from(objects.map(([service, ...slices]) => [objectKey(service), slices] as const)),
  }
}

const exampleEndpoint: Omit<Endpoint, 'address'> = {
  hostname: undefined,
  nodeName: undefined,
  zone: undefined,
  ready: true,
  serving: true,
  terminating: false,
  hints: { zones: [], nodes: [] },
  targetPod: undefined,
}

function parseExamplePort(text: string): ServicePort {
  const match = /^(?:(?<name>[a-z-]+)=)?(?<port>\d+)(?::(?<nodePort>\d+))?\/(?<protocol>tcp|udp|sctp)$/.exec(text)
  if (!match?.groups) throw new Error(`not an example port: ${text}`)
  const { name, port, nodePort, protocol } = match.groups
  return {
    name: name ?? '',
    protocol: protocol as Protocol,
    port: Number(port) as Port,
    targetPort: Number(port) as Port,
    nodePort: nodePort === undefined ? undefined : (Number(nodePort) as Port),
    appProtocol: undefined,
  }
}
