import { parseManifest } from '../model/parse-manifest.ts'
import { invalidObject, type StatusCause } from './api-error.ts'
import { isJsonObject, listAt, objectAt, sameJson, textAt, type JsonObject, type KubeObject } from './kube-object.ts'
import { groupVersion, type ResourceType } from './resources.ts'

const label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const subdomain = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/
const qualified = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)$/
/** Bytes of all annotations together (apimachinery TotalAnnotationSizeLimitB). */
const maxAnnotations = 256 * 1024

const subdomainRule =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')"
const labelRule =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', at most 63, and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc')"

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
      causes.push(invalid('involvedObject.namespace', `"${involved}": does not match event.namespace`))
    }
  }
  for (const parsed of parseManifest(object)) {
    if (parsed.kind === 'ignored' || parsed.kind === 'skipped') continue
    for (const { path, reason } of parsed.problems) causes.push(invalid(path, reason))
  }
  // Names are said in the words of Kubernetes already.
  const seen = new Set(causes.map(({ field }) => field))
  const distinct = causes.filter((cause, index) => {
    const first = causes.findIndex(({ field }) => field === cause.field)
    return first === index || !seen.has('metadata.name') || cause.field !== 'metadata.name'
  })
  if (distinct.length > 0) {
    throw invalidObject({ kind: type.kind, group: type.group, name: object.metadata.name }, distinct)
  }
}

function metadataCauses(type: ResourceType, object: KubeObject, before: KubeObject | undefined): StatusCause[] {
  const { name, labels = {}, annotations = {} } = object.metadata
  const causes: StatusCause[] = []
  const [rule, words] = ['Service', 'Namespace'].includes(type.kind) ? [label, labelRule] : [subdomain, subdomainRule]
  if (!before && !rule.test(name)) causes.push(invalid('metadata.name', `${JSON.stringify(name)}: ${words}`))
  for (const [key, value] of Object.entries(labels)) {
    if (!qualified.test(key)) causes.push(invalid('metadata.labels', `${JSON.stringify(key)}: is not a qualified name`))
    if (value.length > 63 || !labelValue.test(value)) {
      causes.push(
        invalid(
          'metadata.labels',
          `${JSON.stringify(value)}: a valid label must be an empty string or consist of at most 63 alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`,
        ),
      )
    }
  }
  let size = 0
  for (const [key, value] of Object.entries(annotations)) {
    size += key.length + Buffer.byteLength(value)
    if (!qualified.test(key.toLowerCase())) {
      causes.push(invalid('metadata.annotations', `${JSON.stringify(key)}: is not a qualified name`))
    }
  }
  if (size > maxAnnotations)
    causes.push(invalid('metadata.annotations', `may not be more than ${maxAnnotations} bytes`))
  return causes
}

/** Parts of an object that must not change. */
function immutableCauses(type: ResourceType, object: KubeObject, before: KubeObject | undefined): StatusCause[] {
  if (!before) return []
  if (type.kind === 'EndpointSlice' && !sameJson(object['addressType'], before['addressType'])) {
    return [invalid('addressType', `${JSON.stringify(object['addressType'])}: field is immutable`)]
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

function invalid(field: string, message: string): StatusCause {
  return { reason: 'FieldValueInvalid', field, message: `Invalid value: ${message}` }
}

function required(field: string): StatusCause {
  return { reason: 'FieldValueRequired', field, message: 'Required value' }
}

/** Checks that what a client sent says the kind and version of its path. Returns what is wrong. */
export function wrongKind(type: ResourceType, object: JsonObject): string | undefined {
  const { apiVersion, kind } = object
  if (kind !== undefined && kind !== type.kind)
    return `the object is a ${JSON.stringify(kind)}, the path is of ${type.kind}`
  if (apiVersion === undefined || apiVersion === groupVersion(type)) return undefined
  return `the API version in the data (${JSON.stringify(apiVersion)}) does not match the expected API version (${groupVersion(type)})`
}
