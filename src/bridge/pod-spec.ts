import { parseLabelName } from '../model/names.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { MacAddress } from '../net/mac-address.ts'
import type { PortChanges } from './attach-request.ts'
import type { ReadinessProbe } from '../probes/readiness-probe.ts'
import type { PodPort } from './pod-record.ts'
import type { PublishRequest } from './publication.ts'

/** What to run. */
export interface PodSpec {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly network: string
  /** Empty: the pod has a network, but nothing runs in it by itself. */
  readonly command: readonly string[]
  readonly ports?: readonly PodPort[]
  /** Static addresses, at most one per family. */
  readonly ips?: readonly IpAddress[]
  readonly mac?: MacAddress
  /** Ports of the host that shall lead to the pod. */
  readonly publish?: readonly PublishRequest[]
  /** Other names that the pods of its network find it by. */
  readonly aliases?: readonly string[]
  /** How it is asked whether it is ready. Default: it is while its command runs. */
  readonly readinessProbe?: ReadinessProbe
}

/** One more network for a pod. */
export interface ConnectRequest {
  readonly network: string
  readonly ips?: readonly IpAddress[]
  readonly mac?: MacAddress
  /** The link's name in the pod. Default: the network's, or the next number. */
  readonly link?: string
  /** Ports of the host that shall lead to the pod by this network. */
  readonly publish?: readonly PublishRequest[]
  /** Other names that the pods of this network find it by. */
  readonly aliases?: readonly string[]
}

/** What is to change about a pod's ports. */
export interface PodPortsRequest extends PortChanges {
  /** Whose endpoint. Default: the pod's first network to publish; all of its networks to withdraw. */
  readonly network?: string
}

/** A pod that cannot be had as asked. */
export class PodError extends Error {
  override readonly name = 'PodError'
  /** For callers that answer over HTTP: what kind of mistake it is. */
  readonly kind: 'invalid' | 'exists' | 'not-found' | 'busy' | 'failed'

  constructor(kind: PodError['kind'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.kind = kind
  }
}

/** Checks what a user asked for. Throws {@link PodError} of kind `invalid`. */
export function checkPodSpec(spec: PodSpec): void {
  const { namespace, name, labels, command, aliases = [] } = spec
  for (const [field, value] of Object.entries({ namespace, name })) {
    try {
      // Not longer than a label: both together are a file name, and the name is the pod's host name.
      parseLabelName(value)
    } catch (error) {
      throw new PodError('invalid', `${field}: ${(error as Error).message}`, { cause: error })
    }
  }
  for (const [key, value] of Object.entries(labels)) {
    const expected = 'letters, digits, "-", "_" and ".", at most 63, with a letter or digit at both ends'
    if (!/^([a-z0-9.-]{1,253}\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/.test(key)) {
      throw new PodError('invalid', `label "${key}": not a key (expected ${expected})`)
    }
    if (!/^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/.test(value)) {
      throw new PodError('invalid', `label ${key}: "${value}" is not a value (expected ${expected})`)
    }
  }
  checkAliases(aliases)
  if (spec.readinessProbe && spec.network === 'none') {
    throw new PodError('invalid', `readinessProbe: a pod in network none has no address to be asked at`)
  }
  if (command.some((word) => word.includes('\0')) || command[0] === '') {
    throw new PodError('invalid', 'command: expected words without NUL, the first not empty')
  }
}

/** An alias is what a pod's name is: a label, that a question for it can be told from one for a Service. Throws {@link PodError}. */
export function checkAliases(aliases: readonly string[]): void {
  for (const alias of aliases) {
    try {
      parseLabelName(alias)
    } catch (error) {
      throw new PodError('invalid', `alias: ${(error as Error).message}`, { cause: error })
    }
  }
}
