import { networkOf, parseCidr, type Cidr } from '../net/cidr.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { ManifestError } from './manifest-error.ts'
import { ManifestReader, type ReadOptions } from './manifest-reader.ts'
import { parseSubdomainName } from './names.ts'
import type { Node } from './node.ts'
import { readMetadata } from './read-metadata.ts'

/** Turns a Node (v1) manifest into the model. Throws {@link ManifestError}. */
export function parseNode(manifest: unknown, options?: ReadOptions): Node {
  const reader = ManifestReader.of(manifest, options)
  const metadata = readMetadata(reader, parseSubdomainName)
  const spec = reader.object('spec')
  const node: Node = {
    name: metadata.name,
    labels: metadata.labels,
    addresses: readAddresses(reader.object('status')),
    podCIDRs: readPodCIDRs(spec),
    ...readReady(reader.object('status')),
    ...readTaints(spec),
    ...readDeletion(reader.object('metadata')),
  }
  if (reader.problems.length > 0) throw new ManifestError(`Node ${metadata.name}`, reader.problems)
  return node
}

/** Host names among the addresses are left out. */
function readAddresses(status: ManifestReader): readonly IpAddress[] {
  const internal: IpAddress[] = []
  const external: IpAddress[] = []
  for (const entry of status.objects('addresses')) {
    const type = entry.text('type')
    const list = type === 'InternalIP' ? internal : type === 'ExternalIP' ? external : undefined
    const address = list && entry.parsedText('address', parseIp)
    if (list && address !== undefined) list.push(address)
  }
  return [...internal, ...external]
}

function readPodCIDRs(spec: ManifestReader): readonly Cidr[] {
  const parse = (text: string): Cidr => networkOf(parseCidr(text))
  const cidrs = spec.parsedTexts('podCIDRs', parse)
  if (cidrs.length > 0) return cidrs
  const single = spec.raw('podCIDR') === '' ? undefined : spec.parsedText('podCIDR', parse)
  return single === undefined ? [] : [single]
}

function readReady(status: ManifestReader): Pick<Node, 'ready'> {
  for (const condition of status.objects('conditions')) {
    if (condition.text('type') !== 'Ready') continue
    const ready = condition.oneOf('status', ['True', 'False', 'Unknown'])
    return ready === undefined ? {} : { ready }
  }
  return {}
}

function readTaints(spec: ManifestReader): Pick<Node, 'taints'> {
  const taints = [...spec.objects('taints')].flatMap((taint) => taint.text('key') ?? [])
  return taints.length > 0 ? { taints } : {}
}

function readDeletion(metadata: ManifestReader): Pick<Node, 'deletionTimestamp'> {
  const deletionTimestamp = metadata.text('deletionTimestamp')
  return deletionTimestamp === undefined ? {} : { deletionTimestamp }
}
