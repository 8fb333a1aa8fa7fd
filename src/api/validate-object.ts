import { parseManifest } from '../model/parse-manifest.ts'
import { invalidObject, type StatusCause } from './api-error.ts'
import { isJsonObject, listAt, objectAt, sameJson, textAt, type JsonObject, type KubeObject } from './kube-object.ts'
import { keyProblems, labelProblems, subdomainProblems, valueProblems } from './name-rules.ts'
import { groupVersion, type ResourceType } from './resources.ts'
import { forbidden, invalid, required } from './status-causes.ts'
import { serviceUsageCauses, serviceValueCauses } from './validate-service.ts'

/** Bytes of all annotations together (apimachinery TotalAnnotationSizeLimitB). */
const maxAnnotations = 256 * 1024

/** Checks an object that is complete, before it is stored. Throws an {@link ApiError} that names every field that is wrong. */
export function validateObject(type: ResourceType, object: KubeObject, before: KubeObject | undefined): void {
  const causes: StatusCause[] = [...metadataCauses(type, object, before), ...immutableCauses(type, object, before)]
  if (type.kind === 'Service' && textAt(object.spec, 'type') !== 'ExternalName') {
    const headless = textAt(object.spec, 'clusterIP') === 'None'
    if (listAt(object.spec, 'ports').length === 0 && !headless) causes.push(required('spec.ports'))
  }
  if (type.kind === 'Pod' && listAt(object.spec, 'containers').length === 0) causes.push(required('spec.containers'))
  if (type.kind === 'Event') {
    const { namespace = 'default' } = object.metadata
    const involved = textAt(object['involvedObject'], 'namespace') || 'default'
    if (involved !== namespace) {
      causes.push(invalid('involvedObject.namespace', involved, 'does not match event.namespace'))
    }
  }
  if (type.kind === 'Service') causes.push(...serviceValueCauses(object))
  // What follows says the same of the same fields in other words.
  if (causes.length === 0) {
    for (const parsed of parseManifest(object)) {
      if (parsed.kind === 'ignored' || parsed.kind === 'skipped') continue
      for (const { path, reason } of parsed.problems) {
        causes.push({ reason: 'FieldValueInvalid', field: path, message: `Invalid value: ${reason}` })
      }
    }
  }
  refuse(type, object, causes)
}

/** Refuses a Service with fields that do not go with its type. It is complete, with all that the server gives. */
export function refuseMisuse(type: ResourceType, service: KubeObject): void {
  refuse(type, service, serviceUsageCauses(service))
}

function refuse(type: ResourceType, object: KubeObject, causes: readonly StatusCause[]): void {
  if (causes.length === 0) return
  throw invalidObject({ kind: type.kind, group: type.group, name: object.metadata.name }, causes)
}

function metadataCauses(type: ResourceType, object: KubeObject, before: KubeObject | undefined): StatusCause[] {
  const { name, labels = {}, annotations = {}, finalizers = [] } = object.metadata
  const causes: StatusCause[] = []
  const nameRule = ['Service', 'Namespace'].includes(type.kind) ? labelProblems : subdomainProblems
  if (!before && name === '') causes.push(required('metadata.name', 'name or generateName is required'))
  else if (!before) causes.push(...nameRule(name).map((problem) => invalid('metadata.name', name, problem)))
  for (const [key, value] of Object.entries(labels)) {
    causes.push(...keyProblems(key).map((problem) => invalid('metadata.labels', key, problem)))
    causes.push(...valueProblems(value).map((problem) => invalid('metadata.labels', value, problem)))
  }
  let size = 0
  for (const [key, value] of Object.entries(annotations)) {
    size += key.length + Buffer.byteLength(value)
    causes.push(...keyProblems(key.toLowerCase()).map((problem) => invalid('metadata.annotations', key, problem)))
  }
  if (size > maxAnnotations) {
    const message = `Too long: may not be more than ${maxAnnotations} bytes`
    causes.push({ reason: 'FieldValueInvalid', field: 'metadata.annotations', message })
  }
  for (const [index, finalizer] of finalizers.entries())
    causes.push(
      ...keyProblems(finalizer).map((problem) => invalid(`metadata.finalizers[${index}]`, finalizer, problem)),
    )
  const late = before?.metadata.deletionTimestamp === undefined ? [] : newOnes(finalizers, before.metadata.finalizers)
  if (late.length > 0) {
    const why = `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(late)}`
    causes.push(forbidden('metadata.finalizers', why))
  }
  return causes
}

function newOnes(after: readonly string[], before: readonly string[] = []): readonly string[] {
  return after.filter((one) => !before.includes(one))
}

/** Parts of an object that must not change. */
function immutableCauses(type: ResourceType, object: KubeObject, before: KubeObject | undefined): StatusCause[] {
  if (!before) return []
  if (type.kind === 'EndpointSlice' && !sameJson(object['addressType'], before['addressType'])) {
    return [invalid('addressType', object['addressType'], 'field is immutable')]
  }
  if (type.kind === 'Pod' && !sameJson(fixedPodSpec(object.spec), fixedPodSpec(before.spec))) {
    const message =
      'Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds`'
    return [{ reason: 'FieldValueForbidden', field: 'spec', message }]
  }
  return []
}

function fixedPodSpec(spec: JsonObject | undefined): JsonObject {
  const {
    activeDeadlineSeconds: _d,
    tolerations: _t,
    terminationGracePeriodSeconds: _g,
    nodeName,
    ...rest
  } = spec ?? {}
  const withoutImage = (list: unknown): unknown =>
    Array.isArray(list) ? list.map((item) => (isJsonObject(item) ? { ...item, image: '' } : item)) : list
  return {
    ...rest,
    nodeName,
    containers: withoutImage(objectAt({ rest }, 'rest')['containers']),
    initContainers: withoutImage(rest['initContainers']),
  }
}

/** Checks that what a client sent says the kind and version of its path. Returns what is wrong. */
export function wrongKind(type: ResourceType, object: JsonObject): string | undefined {
  const { apiVersion, kind } = object
  if (kind !== undefined && kind !== type.kind)
    return `the object is a ${JSON.stringify(kind)}, the path is of ${type.kind}`
  if (apiVersion === undefined || apiVersion === groupVersion(type)) return undefined
  return `the API version in the data (${JSON.stringify(apiVersion)}) does not match the expected API version (${groupVersion(type)})`
}
