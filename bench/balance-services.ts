import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A Service with five endpoints. */
export interface BalanceService {
  /** Of the object, too. */
  readonly name: string
  readonly ip: string
  /** The third byte of its endpoints' addresses. */
  readonly number: number
  /** Fields of the Service's metadata and spec beyond the rest. */
  readonly annotations?: Readonly<Record<string, string>>
  readonly spec?: Readonly<Record<string, unknown>>
  /** By endpoint. @default all 1 */
  readonly weights?: readonly number[]
}

/** What the balance suite connects to. */
export const balanceServices = {
  even: { name: 'even', ip: '10.96.1.1', number: 1 },
  weighted: { name: 'weighted', ip: '10.96.1.2', number: 2, weights: [5, 2, 1, 1, 1] },
  sticky: { name: 'sticky', ip: '10.96.1.3', number: 3, spec: { sessionAffinity: 'ClientIP' } },
  maglev: { name: 'maglev', ip: '10.96.1.4', number: 4, annotations: { 'fairlead.dev/algorithm': 'maglev' } },
} as const satisfies Readonly<Record<string, BalanceService>>

/** The addresses of a Service's endpoints. */
export function endpointAddresses({ number }: BalanceService): string[] {
  return [1, 2, 3, 4, 5].map((k) => `10.128.${number}.${k}`)
}

/** The weight of endpoint `k`. */
export function weightOf({ weights }: BalanceService, k: number): number {
  return weights?.[k] ?? 1
}

/** Writes all of them into a folder. */
export function balanceManifests(folder: string): void {
  mkdirSync(folder, { recursive: true })
  for (const service of Object.values(balanceServices)) {
    writeFileSync(
      join(folder, `${service.name}.yaml`),
      `${serviceOf(service)}---\n${balanceSlice(service, endpointAddresses(service))}`,
    )
  }
}

/** The EndpointSlice of a Service with these endpoints. JSON is YAML. */
export function balanceSlice(service: BalanceService, addresses: readonly string[]): string {
  const { name, weights } = service
  const all = endpointAddresses(service)
  const text = addresses.map((ip) => `${ip}=${weightOf(service, all.indexOf(ip))}`).join(',')
  return `${JSON.stringify({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${name}-a`,
      namespace: 'bench',
      labels: { 'kubernetes.io/service-name': name },
      ...(weights && { annotations: { 'fairlead.dev/weights': text } }),
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: addresses.map((ip) => ({ addresses: [ip], conditions: { ready: true }, nodeName: 'node-1' })),
  })}\n`
}

function serviceOf({ name, ip, annotations = {}, spec = {} }: BalanceService): string {
  return `${JSON.stringify({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'bench', annotations },
    spec: { clusterIP: ip, ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 8080 }], ...spec },
  })}\n`
}
