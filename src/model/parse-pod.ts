import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { parseProtocol } from '../net/protocol.ts'
import { parseEndpointIp } from './endpoint-address.ts'
import { ManifestError } from './manifest-error.ts'
import { exact, ManifestReader, type ReadOptions } from './manifest-reader.ts'
import { parseLabelName, parsePortName, parseSubdomainName } from './names.ts'
import type { Pod } from './pod.ts'
import { readMetadata } from './read-metadata.ts'

/** Turns a Pod (v1) manifest into the model. Throws {@link ManifestError}. */
export function parsePod(manifest: unknown, options?: ReadOptions): Pod {
  const reader = ManifestReader.of(manifest, options)
  const metadata = readMetadata(reader, parseSubdomainName)
  const spec = reader.object('spec')
  const status = reader.object('status')
  const phase = status.oneOf('phase', ['Pending', 'Running', 'Succeeded', 'Failed', 'Unknown']) ?? 'Pending'
  const pod: Pod = {
    namespace: metadata.namespace,
    name: metadata.name,
    labels: metadata.labels,
    annotations: reader.object('metadata').texts('annotations'),
    nodeName: spec.text('nodeName'),
    hostname: spec.parsedText('hostname', parseLabelName),
    subdomain: spec.parsedText('subdomain', parseLabelName),
    hostNetwork: spec.boolean('hostNetwork') ?? false,
    podIPs: readPodIPs(status),
    phase,
    ready: readReady(status) ?? phase === 'Running',
    terminating: reader.object('metadata').has('deletionTimestamp'),
    ports: readPorts(spec),
  }
  if (reader.problems.length > 0) {
    throw new ManifestError(`Pod ${metadata.namespace}/${metadata.name}`, reader.problems)
  }
  return pod
}

/** `podIPs` holds the older `podIP` as its first (core/v1); files may give either. */
function readPodIPs(status: ManifestReader): readonly IpAddress[] {
  const ips: IpAddress[] = []
  for (const entry of status.objects('podIPs')) {
    const ip = entry.parsedText('ip', parseEndpointIp)
    if (ip !== undefined) ips.push(ip)
  }
  const single = status.raw('podIP') === '' ? undefined : status.parsedText('podIP', parseEndpointIp)
  if (single !== undefined && ips[0] === undefined) ips.push(single)
  if (single !== undefined && ips[0] !== single) {
    status.fail('podIPs[0].ip', `"${ips[0]}" differs from status.podIP "${single}" (expected the same)`)
  }
  if (new Set(ips.map((ip) => ipFamilyOf(ip))).size < ips.length) {
    status.fail('podIPs', 'has two addresses of one family (expected one per family at most)')
  }
  return exact(ips)
}

/** Undefined when the pod has no conditions at all. */
function readReady(status: ManifestReader): boolean | undefined {
  let known = false
  for (const condition of status.objects('conditions')) {
    known = true
    if (condition.text('type') === 'Ready') return condition.text('status') === 'True'
  }
  return known ? false : undefined
}

function readPorts(spec: ManifestReader): Pod['ports'] {
  const ports: Pod['ports'][number][] = []
  for (const container of spec.objects('containers')) {
    for (const entry of container.objects('ports')) {
      const name = entry.parsedText('name', parsePortName)
      const protocol = entry.parsedText('protocol', parseProtocol) ?? 'tcp'
      const port = entry.parsed('containerPort', parsePort)
      if (name !== undefined && name !== '' && port !== undefined) ports.push({ name, protocol, port })
    }
  }
  return exact(ports)
}
