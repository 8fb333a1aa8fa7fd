import * as fc from 'fast-check'
import { emptySnapshot, type Snapshot } from '../../src/model/snapshot.ts'
import { parseManifest } from '../../src/model/parse-manifest.ts'
import { SharedMap } from '../../src/base/shared-map.ts'
import { objectKey, type ObjectKey } from '../../src/model/object-key.ts'
import type { EndpointSlice } from '../../src/model/endpoint-slice.ts'
import { parseIp, type IpAddress } from '../../src/net/ip-address.ts'
import type { Port } from '../../src/net/port.ts'
import { parsePort } from '../../src/net/port.ts'
import type { Protocol } from '../../src/net/protocol.ts'
import type { Origin } from '../../src/proxy/decide.ts'

/*
 * Random manifests and packets for tests of whole modes. Addresses and ports come from small pools, so that Services collide,
 * endpoints are shared, and packets find something.
 */

/** The node that random objects are seen from. */
export const fuzzNode = { name: 'this-node', zone: 'zone-a', addresses: ['192.168.0.2', 'fd00:192:168::2'] } as const
/** Sources that count as pods. */
export const fuzzPods = ['10.0.0.0/16', 'fd00:10::/64'] as const
/** Where cluster IPs come from. */
export const fuzzServiceRanges = ['172.30.0.0/24', 'fd00:172:30::/120'] as const

const pool = <T>(...values: readonly T[]) => fc.constantFrom(...values)
const clusterIPs4 = pool('172.30.0.1', '172.30.0.2', '172.30.0.3', '172.30.0.4')
const clusterIPs6 = pool('fd00:172:30::1', 'fd00:172:30::2', 'fd00:172:30::3')
const externalIPs = pool('192.168.99.1', '192.168.99.2', '2001:db8:99::1')
const balancerIPs = pool('1.2.3.4', '5.6.7.8', '2001:db8:99::9')
const endpoints4 = ['10.0.0.1', '10.0.0.2', '10.0.1.1', '10.0.1.2', '10.0.2.1', '192.168.0.2']
const endpoints6 = ['fd00:10::1', 'fd00:10::2', 'fd00:10::101']
const ports = pool(80, 443, 53)
const nodePorts = pool(30080, 30443, 30053)
const names = pool('a', 'b', 'c', 'd')
const protocols = pool('TCP', 'UDP', 'SCTP')
const nodeNames = pool('this-node', 'other-node', undefined)
const zones = pool('zone-a', 'zone-b')

const servicePort = fc.record(
  { name: pool('p', 'q', 'r'), protocol: protocols, port: ports, nodePort: nodePorts },
  { requiredKeys: ['name', 'protocol', 'port'] },
)

const service = fc.record({
  apiVersion: fc.constant('v1'),
  kind: fc.constant('Service'),
  metadata: fc.record({
    namespace: fc.constant('ns'),
    name: names,
    annotations: fc.record(
      {
        'fairlead.dev/algorithm': pool('random', 'maglev', 'round-robin', 'nonsense'),
        'fairlead.dev/affinity-scope': pool('port', 'service'),
        'fairlead.dev/source-ranges': pool('load-balancer', 'all'),
      },
      { requiredKeys: [] },
    ),
  }),
  spec: fc
    .record(
      {
        type: pool('ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'),
        families: pool('4', '6', '46', 'none'),
        four: clusterIPs4,
        six: clusterIPs6,
        ports: fc.uniqueArray(servicePort, {
          minLength: 1,
          maxLength: 3,
          comparator: (a, b) => a.name === b.name || (a.port === b.port && a.protocol === b.protocol),
        }),
        externalIPs: fc.uniqueArray(externalIPs, { maxLength: 2 }),
        loadBalancerSourceRanges: fc.uniqueArray(
          pool('203.0.113.0/25', ' 10.0.0.0/24', '192.168.0.0/24', '2001:db8:1::/64', '0.0.0.0/0'),
          { maxLength: 3 },
        ),
        sessionAffinity: pool('None', 'None', 'ClientIP'),
        internalTrafficPolicy: pool('Cluster', 'Local'),
        externalTrafficPolicy: pool('Cluster', 'Local'),
      },
      { noNullPrototype: true },
    )
    .map(({ families, four, six, type, ...rest }) => {
      const clusterIPs = [...(families.includes('4') ? [four] : []), ...(families.includes('6') ? [six] : [])]
      const headless = families === 'none' && (type === 'ClusterIP' || type === 'ExternalName')
      return {
        ...rest,
        type: families === 'none' && !headless ? 'ClusterIP' : type,
        ...(type === 'ExternalName' && { externalName: 'example.org' }),
        ...(clusterIPs.length > 0 ? { clusterIP: clusterIPs[0], clusterIPs } : { clusterIP: 'None' }),
      }
    }),
  status: fc
    .uniqueArray(fc.record({ ip: balancerIPs, ipMode: pool('VIP', 'Proxy') }), { maxLength: 2, selector: (i) => i.ip })
    .map((ingress) => ({ loadBalancer: { ingress } })),
})

const conditions = pool(
  { ready: true },
  { ready: true },
  {},
  { ready: false },
  { ready: false, serving: true, terminating: true },
  { ready: false, serving: false, terminating: true },
)

const endpoint = (addresses: readonly string[]) =>
  fc.record({
    // Now and then an address that is none, or of the other family.
    addresses: fc.oneof(
      { weight: 30, arbitrary: pool(...addresses).map((a) => [a]) },
      { weight: 1, arbitrary: pool(['nonsense'], [], ['10.0.0.1'], ['fd00:10::1']) },
    ),
    nodeName: nodeNames,
    zone: zones,
    conditions,
    hints: pool(
      undefined,
      { forZones: [{ name: 'zone-a' }] },
      { forZones: [{ name: 'zone-b' }] },
      { forNodes: [{ name: 'this-node' }] },
    ),
  })

const slice = fc
  .record({
    service: names,
    part: pool('x', 'y'),
    six: fc.boolean(),
    weight: pool(undefined, '0', '1', '3'),
    ports: fc.boolean(),
  })
  .chain(({ service: serviceName, part, six, weight, ports: reversed }) =>
    fc.array(endpoint(six ? endpoints6 : endpoints4), { maxLength: 4 }).map((endpoints) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        namespace: 'ns',
        name: `${serviceName}-${part}${six ? 6 : 4}`,
        labels: { 'kubernetes.io/service-name': serviceName },
        ...(weight !== undefined && { annotations: { 'fairlead.dev/weight': weight } }),
      },
      addressType: six ? 'IPv6' : 'IPv4',
      ports: ['p', 'q', 'r'].flatMap((name, i) =>
        ['TCP', 'UDP', 'SCTP'].map((protocol) => ({ name, protocol, port: reversed ? 8080 : 8080 + i })),
      ),
      endpoints,
    })),
  )

/** Manifests of up to four Services in one namespace, their slices, and the node. Some are malformed. */
export const arbitraryManifests: fc.Arbitrary<readonly unknown[]> = fc
  .tuple(fc.array(service, { minLength: 1, maxLength: 5 }), fc.array(slice, { maxLength: 8 }))
  .map(([services, slices]): unknown[] => [
    ...services,
    ...slices,
    {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: fuzzNode.name, labels: { 'topology.kubernetes.io/zone': fuzzNode.zone } },
      status: { addresses: fuzzNode.addresses.map((address) => ({ type: 'InternalIP', address })) },
    },
  ])

/** What manifests come to: of two with one name the last counts, and malformed ones are left out. */
export function snapshotOfManifests(manifests: readonly unknown[]): Snapshot {
  const services = new Map<ObjectKey, Snapshot['services'] extends SharedMap<infer V> ? V : never>()
  const slices = new Map<string, EndpointSlice>()
  let { nodes } = emptySnapshot
  for (const parsed of manifests.flatMap((manifest) => parseManifest(manifest))) {
    if (parsed.kind !== 'object') continue
    const { object } = parsed
    if (object.kind === 'Service') services.set(objectKey(object.value), object.value)
    else if (object.kind === 'EndpointSlice') slices.set(objectKey(object.value), object.value)
    else if (object.kind === 'Node') nodes = nodes.with([[object.value.name, object.value]])
  }
  const byService = Map.groupBy(slices.values(), (slice) => `${slice.namespace}/${slice.serviceName}`)
  return { ...emptySnapshot, services: SharedMap.from(services), slices: SharedMap.from(byService), nodes }
}

/** A connection's first packet, from whoever may send one. */
export interface FuzzPacket {
  readonly source: IpAddress
  readonly destination: IpAddress
  readonly port: Port
  readonly protocol: Protocol
  readonly origin: Origin
}

const sources4 = pool<[string, Origin]>(
  ['10.0.0.9', 'pod'],
  ['10.0.0.1', 'pod'],
  ['192.168.0.2', 'node'],
  ['192.168.0.3', 'outside'],
  ['203.0.113.2', 'outside'],
  ['203.0.113.200', 'outside'],
)
const sources6 = pool<[string, Origin]>(
  ['fd00:10::9', 'pod'],
  ['fd00:10::1', 'pod'],
  ['fd00:192:168::2', 'node'],
  ['2001:db8:1::2', 'outside'],
)
const destinations4 = fc.oneof(
  clusterIPs4,
  pool('172.30.0.77', '192.168.0.2', '192.168.0.2', '1.2.3.4', '5.6.7.8', '192.168.99.1', '9.9.9.9'),
)
const destinations6 = fc.oneof(
  clusterIPs6,
  pool('fd00:172:30::77', 'fd00:192:168::2', '2001:db8:99::1', '2001:db8:99::9'),
)

/** Packets to addresses of {@link arbitraryManifests}, and to others. */
export const arbitraryPacket: fc.Arbitrary<FuzzPacket> = fc
  .tuple(
    fc.oneof(fc.tuple(sources4, destinations4), fc.tuple(sources6, destinations6)),
    fc.oneof(ports, nodePorts),
    pool<Protocol>('tcp', 'udp', 'sctp'),
  )
  .map(([[[source, origin], destination], port, protocol]) => ({
    source: parseIp(source),
    destination: parseIp(destination),
    port: parsePort(port),
    protocol,
    origin,
  }))
