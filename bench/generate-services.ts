import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** What to generate. Addresses follow from the numbers, so two runs make the same files. */
export interface ServiceSet {
  readonly services: number
  readonly endpointsEach: number
  /** Services whose number ends in 9 are of UDP. */
  readonly withUdp?: boolean
}

const servicesPerFile = 100

/** The largest set that the address plan has room for: cluster IPs in 10.96.0.0/12, endpoints in 10.128.0.0/9. */
export const maxServices = 200_000

/** Of all Services together; see {@link maxServices}. */
export const maxEndpoints = 8_000_000

/** Writes manifests of Services and EndpointSlices, 100 Services a file, into `folder`. */
export function generateServices(folder: string, set: ServiceSet): void {
  mkdirSync(folder, { recursive: true })
  for (let first = 0; first < set.services; first += servicesPerFile) writeServices(folder, set, first)
}

/** Rewrites the file of Service `index`, its first endpoint replaced by `address`; without one as it was generated. */
export function rewriteService(folder: string, set: ServiceSet, index: number, address?: string): void {
  writeServices(folder, set, index - (index % servicesPerFile), (i) => (i === index ? address : undefined))
}

/** Adds Service number `set.services` in a file of its own; call it again with `false` to remove it. */
export function addService(folder: string, set: ServiceSet, present: boolean): void {
  const file = join(folder, 'added.yaml')
  const index = set.services
  if (present) writeFileSync(file, [serviceManifest(index), sliceManifest(index, endpoints(set, index))].join('---\n'))
  else rmSync(file)
}

/**
 * Replaces the first endpoint of every tenth Service, in all files (`true`), or puts them back: a tenth of all Services
 * changes at once.
 */
export function churnServices(folder: string, set: ServiceSet, churned: boolean): void {
  for (let first = 0; first < set.services; first += servicesPerFile) {
    writeServices(folder, set, first, (index) => (churned && index % 10 === 0 ? movedAddress(index) : undefined))
  }
}

/** An address that no generated endpoint has (10.64.0.0/11). */
function movedAddress(index: number): string {
  return `10.${64 + (index >>> 16)}.${(index >>> 8) & 255}.${index & 255}`
}

function writeServices(
  folder: string,
  set: ServiceSet,
  first: number,
  replacement: (index: number) => string | undefined = () => undefined,
): void {
  const documents: string[] = []
  for (let i = first; i < Math.min(first + servicesPerFile, set.services); i++) {
    const addresses = endpoints(set, i)
    addresses[0] = replacement(i) ?? addresses[0]!
    const protocol = protocolOf(set, i)
    documents.push(serviceManifest(i, protocol), sliceManifest(i, addresses, protocol))
  }
  writeFileSync(fileOf(folder, first), documents.join('---\n'))
}

/** Of Service `index`. */
export function protocolOf({ withUdp = false }: ServiceSet, index: number): 'TCP' | 'UDP' {
  return withUdp && index % 10 === 9 ? 'UDP' : 'TCP'
}

export function clusterIp(index: number): string {
  const value = 0x0a60_1000 + index
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.')
}

/** The addresses of the endpoints of Service `index`. */
export function endpoints(set: ServiceSet, index: number): string[] {
  return Array.from({ length: set.endpointsEach }, (_, k) => {
    const value = 0x0a80_0100 + index * set.endpointsEach + k
    return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.')
  })
}

function fileOf(folder: string, first: number): string {
  return join(folder, `services-${String(first).padStart(6, '0')}.yaml`)
}

function serviceManifest(index: number, protocol = 'TCP'): string {
  return `apiVersion: v1
kind: Service
metadata:
  name: svc-${index}
  namespace: bench
spec:
  clusterIP: ${clusterIp(index)}
  ports:
  - {name: http, protocol: ${protocol}, port: 80, targetPort: 8080}
`
}

/** The EndpointSlice of Service `index`. */
export function sliceManifest(index: number, addresses: readonly string[], protocol = 'TCP'): string {
  return `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: svc-${index}-a
  namespace: bench
  labels: {kubernetes.io/service-name: svc-${index}}
addressType: IPv4
ports:
- {name: http, protocol: ${protocol}, port: 8080}
endpoints:
${addresses.map((address) => `- {addresses: [${address}], conditions: {ready: true}, nodeName: node-1}`).join('\n')}
`
}
