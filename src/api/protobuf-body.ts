import { ApiError } from './api-error.ts'
import type { JsonObject } from './kube-object.ts'

/** How one field of a message is written; the name of another message stands for itself. */
type Field = readonly [
  name: string,
  type: 'string' | 'strings' | 'int' | 'bool' | 'time' | 'microtime' | 'intstr' | 'texts' | (string & {}),
  many?: 'many',
]
type Message = Readonly<Record<number, Field>>

/** The numbers of generated.proto (k8s.io/api, k8s.io/apimachinery), of kinds that typed clients write to a small server. */
const messages: Readonly<Record<string, Message>> = {
  Service: { 1: ['metadata', 'ObjectMeta'], 2: ['spec', 'ServiceSpec'] },
  Namespace: { 1: ['metadata', 'ObjectMeta'] },
  Lease: { 1: ['metadata', 'ObjectMeta'], 2: ['spec', 'LeaseSpec'] },
  'v1 Event': {
    1: ['metadata', 'ObjectMeta'],
    2: ['involvedObject', 'ObjectReference'],
    3: ['reason', 'string'],
    4: ['message', 'string'],
    5: ['source', 'EventSource'],
    6: ['firstTimestamp', 'time'],
    7: ['lastTimestamp', 'time'],
    8: ['count', 'int'],
    9: ['type', 'string'],
    10: ['eventTime', 'microtime'],
    11: ['series', 'EventSeries'],
    12: ['action', 'string'],
    13: ['related', 'ObjectReference'],
    14: ['reportingComponent', 'string'],
    15: ['reportingInstance', 'string'],
  },
  'events.k8s.io/v1 Event': {
    1: ['metadata', 'ObjectMeta'],
    2: ['eventTime', 'microtime'],
    3: ['series', 'EventSeries'],
    4: ['reportingController', 'string'],
    5: ['reportingInstance', 'string'],
    6: ['action', 'string'],
    7: ['reason', 'string'],
    8: ['regarding', 'ObjectReference'],
    9: ['related', 'ObjectReference'],
    10: ['note', 'string'],
    11: ['type', 'string'],
    12: ['deprecatedSource', 'EventSource'],
    13: ['deprecatedFirstTimestamp', 'time'],
    14: ['deprecatedLastTimestamp', 'time'],
    15: ['deprecatedCount', 'int'],
  },
  EventSeries: { 1: ['count', 'int'], 2: ['lastObservedTime', 'microtime'] },
  EventSource: { 1: ['component', 'string'], 2: ['host', 'string'] },
  ObjectReference: {
    1: ['kind', 'string'],
    2: ['namespace', 'string'],
    3: ['name', 'string'],
    4: ['uid', 'string'],
    5: ['apiVersion', 'string'],
    6: ['resourceVersion', 'string'],
    7: ['fieldPath', 'string'],
  },
  SelfSubjectReview: { 1: ['metadata', 'ObjectMeta'] },
  SelfSubjectAccessReview: { 1: ['metadata', 'ObjectMeta'], 2: ['spec', 'AccessSpec'] },
  SelfSubjectRulesReview: { 1: ['metadata', 'ObjectMeta'], 2: ['spec', 'RulesSpec'] },
  AccessSpec: {
    1: ['resourceAttributes', 'ResourceAttributes'],
    2: ['nonResourceAttributes', 'NonResourceAttributes'],
  },
  ResourceAttributes: {
    1: ['namespace', 'string'],
    2: ['verb', 'string'],
    3: ['group', 'string'],
    4: ['version', 'string'],
    5: ['resource', 'string'],
    6: ['subresource', 'string'],
    7: ['name', 'string'],
  },
  NonResourceAttributes: { 1: ['path', 'string'], 2: ['verb', 'string'] },
  RulesSpec: { 1: ['namespace', 'string'] },
  DeleteOptions: {
    1: ['gracePeriodSeconds', 'int'],
    2: ['preconditions', 'Preconditions'],
    4: ['propagationPolicy', 'string'],
    5: ['dryRun', 'strings'],
  },
  Preconditions: { 1: ['uid', 'string'], 2: ['resourceVersion', 'string'] },
  ObjectMeta: {
    1: ['name', 'string'],
    2: ['generateName', 'string'],
    3: ['namespace', 'string'],
    5: ['uid', 'string'],
    6: ['resourceVersion', 'string'],
    11: ['labels', 'texts'],
    12: ['annotations', 'texts'],
    13: ['ownerReferences', 'OwnerReference', 'many'],
    14: ['finalizers', 'strings'],
  },
  OwnerReference: {
    1: ['kind', 'string'],
    3: ['name', 'string'],
    4: ['uid', 'string'],
    5: ['apiVersion', 'string'],
    6: ['controller', 'bool'],
    7: ['blockOwnerDeletion', 'bool'],
  },
  ServiceSpec: {
    1: ['ports', 'ServicePort', 'many'],
    2: ['selector', 'texts'],
    3: ['clusterIP', 'string'],
    4: ['type', 'string'],
    5: ['externalIPs', 'strings'],
    7: ['sessionAffinity', 'string'],
    8: ['loadBalancerIP', 'string'],
    9: ['loadBalancerSourceRanges', 'strings'],
    10: ['externalName', 'string'],
    11: ['externalTrafficPolicy', 'string'],
    12: ['healthCheckNodePort', 'int'],
    13: ['publishNotReadyAddresses', 'bool'],
    14: ['sessionAffinityConfig', 'SessionAffinityConfig'],
    17: ['ipFamilyPolicy', 'string'],
    18: ['clusterIPs', 'strings'],
    19: ['ipFamilies', 'strings'],
    20: ['allocateLoadBalancerNodePorts', 'bool'],
    21: ['loadBalancerClass', 'string'],
    22: ['internalTrafficPolicy', 'string'],
    23: ['trafficDistribution', 'string'],
  },
  ServicePort: {
    1: ['name', 'string'],
    2: ['protocol', 'string'],
    3: ['port', 'int'],
    4: ['targetPort', 'intstr'],
    5: ['nodePort', 'int'],
    6: ['appProtocol', 'string'],
  },
  SessionAffinityConfig: { 1: ['clientIP', 'ClientIPConfig'] },
  ClientIPConfig: { 1: ['timeoutSeconds', 'int'] },
  LeaseSpec: {
    1: ['holderIdentity', 'string'],
    2: ['leaseDurationSeconds', 'int'],
    3: ['acquireTime', 'time'],
    4: ['renewTime', 'time'],
    5: ['leaseTransitions', 'int'],
  },
}

const magic = Buffer.from('k8s\0', 'latin1')

/**
 * Reads an object in the protobuf encoding of Kubernetes (`application/vnd.kubernetes.protobuf`: four letters, then a
 * runtime.Unknown), which typed clients such as `kubectl create namespace` write. Go writes empty texts and zeros where
 * nothing was given: they count as absent. Throws {@link ApiError}: 415 for kinds whose encoding is not known here.
 */
export function readProtobufBody(body: Buffer): JsonObject {
  try {
    if (!body.subarray(0, 4).equals(magic)) throw new RangeError('it does not begin with "k8s"')
    let apiVersion = ''
    let kind = ''
    let raw: Buffer = Buffer.alloc(0)
    for (const [number, value] of fieldsOf(body.subarray(4))) {
      if (number === 2 && Buffer.isBuffer(value)) raw = value
      if (number !== 1 || !Buffer.isBuffer(value)) continue
      for (const [part, text] of fieldsOf(value)) {
        if (part === 1) apiVersion = String(text)
        if (part === 2) kind = String(text)
      }
    }
    // An Event has other fields in each of its groups.
    const known = [kind, `${apiVersion} ${kind}`].find((name) => Object.hasOwn(messages, name))
    const message = known === undefined ? undefined : messages[known]
    if (!message)
      throw new ApiError('UnsupportedMediaType', `a ${kind} is read as application/json only, not as protobuf`)
    return { apiVersion, kind, ...readMessage(raw, message) }
  } catch (error) {
    if (error instanceof ApiError) throw error
    throw new ApiError('BadRequest', `the body is not protobuf: ${(error as Error).message}`, { cause: error })
  }
}

function readMessage(bytes: Buffer, message: Message): JsonObject {
  const result: JsonObject = {}
  for (const [number, value] of fieldsOf(bytes)) {
    const field = message[number]
    if (!field) continue
    const [name, type, many] = field
    const read = readValue(value, type)
    if (read === undefined) continue
    if (type === 'texts') result[name] = { ...(result[name] as object | undefined), ...(read as object) }
    else if (many || type === 'strings') result[name] = [...((result[name] as unknown[] | undefined) ?? []), read]
    else result[name] = read
  }
  return result
}

function readValue(value: Buffer | bigint, type: Field[1]): unknown {
  if (typeof value === 'bigint') {
    if (type === 'bool') return value !== 0n
    return type === 'int' && value !== 0n ? Number(BigInt.asIntN(64, value)) : undefined
  }
  switch (type) {
    case 'string':
    case 'strings':
      return value.length === 0 ? undefined : utf8(value)
    case 'texts': {
      const entry = new Map(fieldsOf(value))
      return { [textOf(entry.get(1))]: textOf(entry.get(2)) }
    }
    case 'time': {
      const seconds = new Map(fieldsOf(value)).get(1)
      return typeof seconds === 'bigint' ? new Date(Number(seconds) * 1000).toISOString() : undefined
    }
    case 'microtime': {
      const parts = new Map(fieldsOf(value))
      const seconds = parts.get(1)
      if (typeof seconds !== 'bigint') return undefined
      const micros = String(Number(parts.get(2) ?? 0n) / 1000)
        .replace(/\..*/, '')
        .padStart(6, '0')
      return new Date(Number(seconds) * 1000).toISOString().replace('.000Z', `.${micros}Z`)
    }
    case 'intstr': {
      const parts = new Map(fieldsOf(value))
      const number = Number(parts.get(2) ?? 0n)
      return parts.get(1) === 1n ? textOf(parts.get(3)) || undefined : number || undefined
    }
    default:
      return value.length === 0 ? undefined : readMessage(value, messages[type] ?? {})
  }
}

function textOf(value: Buffer | bigint | undefined): string {
  return Buffer.isBuffer(value) ? utf8(value) : ''
}

function utf8(bytes: Buffer): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
}

/** The fields of a message, in their order: varints and bytes; the others do not occur in these messages. */
function* fieldsOf(bytes: Buffer): Generator<[number: number, value: Buffer | bigint]> {
  let at = 0
  const varint = (): bigint => {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++]
      if (byte === undefined) break
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    throw new RangeError('a number is cut off')
  }
  while (at < bytes.length) {
    const tag = varint()
    const number = Number(tag >> 3n)
    const wire = Number(tag & 7n)
    if (wire === 0) yield [number, varint()]
    else if (wire === 2) {
      const length = Number(varint())
      if (length > bytes.length - at) throw new RangeError('a field is cut off')
      yield [number, bytes.subarray(at, at + length)]
      at += length
    } else throw new RangeError(`wire type ${wire} is not known`)
  }
}
