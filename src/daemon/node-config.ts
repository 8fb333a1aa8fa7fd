import type { ManifestReader } from '../model/manifest-reader.ts'
import { parseSubdomainName } from '../model/names.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'

/** What this machine is to the other nodes of a cluster. */
export interface NodeConfig {
  /** Its Node, Lease and Pods are written to the API. Undefined: to the embedded one, and to no other ({@link isRegistered}). */
  readonly register: boolean | undefined
  /** Where other nodes reach it, the primary first. Empty: the addresses of the default routes' links. */
  readonly addresses: readonly IpAddress[]
  /** Of the Node object, besides those that every node has. */
  readonly labels: Readonly<Record<string, string>>
  /** Routes to the pods of other nodes are kept in the kernel. Undefined: where the node is registered ({@link keepsPodRoutes}). */
  readonly podRoutes: boolean | undefined
  /** The node counts as alive for so long after its last sign, s. Default 40. */
  readonly leaseSeconds: number
}

/** A proxy beside somebody else's node. */
export const noNode: NodeConfig = { register: false, addresses: [], labels: {}, podRoutes: false, leaseSeconds: 40 }

/** The keys of `node`. */
export const nodeKeys = { register: true, address: true, labels: true, podRoutes: true, leaseSeconds: true } as const

/** Reads `node`. `hasApi`: the daemon has an API of its own, or follows one. Problems go to the reader. */
export function readNode(
  reader: ManifestReader,
  { nodeName, ownApi, followsOther }: { nodeName: string; ownApi: boolean; followsOther: boolean },
): NodeConfig {
  const asked = reader.boolean('register')
  const named = isNodeName(nodeName)
  if (asked === true && !ownApi && !followsOther) {
    reader.fail(
      'register',
      'is true, but there is no API to register with (expected api.enabled, or sources.kubernetes)',
    )
  }
  if (asked === true && !named) {
    reader.fail(
      'register',
      `is true, but nodeName ${JSON.stringify(nodeName)} cannot be the name of a Node (expected a lower-case DNS name)`,
    )
  }
  return {
    register: asked,
    addresses: readAddresses(reader),
    labels: readLabels(reader),
    podRoutes: reader.boolean('podRoutes'),
    leaseSeconds: reader.integer('leaseSeconds', { min: 4, max: 3600 }) ?? 40,
  }
}

/** Whether this node's objects are written to an API. */
export function isRegistered(config: {
  readonly node: NodeConfig
  readonly nodeName: string
  readonly api: object | undefined
}): boolean {
  return config.node.register ?? (config.api !== undefined && isNodeName(config.nodeName))
}

/** Whether routes to other nodes' pods are kept. */
export function keepsPodRoutes(config: Parameters<typeof isRegistered>[0]): boolean {
  return config.node.podRoutes ?? isRegistered(config)
}

/** One address, or a list. */
function readAddresses(reader: ManifestReader): readonly IpAddress[] {
  const raw = reader.raw('address')
  if (typeof raw !== 'string') return reader.parsedTexts('address', parseHostIp)
  const address = reader.parsedText('address', parseHostIp)
  return address === undefined ? [] : [address]
}

/** Keys and values as `metadata.labels` has them; the API checks them, too, but would refuse the whole node. */
function readLabels(reader: ManifestReader): Readonly<Record<string, string>> {
  const labels = reader.texts('labels')
  for (const [key, value] of Object.entries(labels)) {
    const isKey = /^([a-z0-9.-]{1,253}\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/.test(key)
    const isValue = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/.test(value)
    if (!isKey || !isValue) reader.fail('labels', `${JSON.stringify({ [key]: value })} is not a label of Kubernetes`)
  }
  return labels
}

function parseHostIp(text: string): IpAddress {
  const ip = parseIp(text)
  const useless = ['0.0.0.0', '::', '::1'].includes(ip) || ip.startsWith('127.') || ip.startsWith('fe80:')
  if (!useless) return ip
  throw new ParseError(`"${text}" is an address that no other machine can reach this one by`)
}

function isNodeName(name: string): boolean {
  try {
    parseSubdomainName(name)
    return true
  } catch (error) {
    if (error instanceof ParseError) return false
    throw error
  }
}
