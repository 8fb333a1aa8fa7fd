import type { EndpointSlice } from './endpoint-slice.ts'
import { readWeights } from './endpoint-weight.ts'
import { ManifestError, type FieldProblem } from './manifest-error.ts'
import { ManifestReader, show, type ReadOptions } from './manifest-reader.ts'
import type { Node } from './node.ts'
import { objectKey } from './object-key.ts'
import { parseEndpointSlice } from './parse-endpoint-slice.ts'
import type { Namespace } from './namespace.ts'
import { parseNamespace } from './parse-namespace.ts'
import type { NetworkManifest } from './network.ts'
import { fairleadApi, parseNetworkManifest } from './parse-network.ts'
import { parseNode } from './parse-node.ts'
import { parsePod } from './parse-pod.ts'
import { parseServiceCIDR } from './parse-service-cidr.ts'
import { parseService } from './parse-service.ts'
import type { Pod } from './pod.ts'
import type { ServiceCIDR } from './service-cidr.ts'
import type { Service } from './service.ts'

/** An object of the model, with its kind. */
export type ManifestObject =
  | { readonly kind: 'Service'; readonly value: Service }
  | { readonly kind: 'EndpointSlice'; readonly value: EndpointSlice }
  | { readonly kind: 'Pod'; readonly value: Pod }
  | { readonly kind: 'Node'; readonly value: Node }
  | { readonly kind: 'Namespace'; readonly value: Namespace }
  | { readonly kind: 'Network'; readonly value: NetworkManifest }
  | { readonly kind: 'ServiceCIDR'; readonly value: ServiceCIDR }

/** What became of one object of a manifest. */
export type ParsedManifest =
  /** `problems` are of parts that were left out (single endpoints of a slice, weights). */
  | { readonly kind: 'object'; readonly object: ManifestObject; readonly problems: readonly FieldProblem[] }
  /** Well-formed, but nothing that a node can use. */
  | { readonly kind: 'skipped'; readonly id: string; readonly problem: FieldProblem }
  /** A kind that is of no interest here, like `apps/v1 Deployment`. */
  | { readonly kind: 'ignored'; readonly apiKind: string }
  | { readonly kind: 'refused'; readonly id: string; readonly problems: readonly FieldProblem[] }

/** `Service shop/web` or `Node worker-1`: names an object in indexes and messages. */
export function manifestId(object: ManifestObject): string {
  return `${object.kind} ${'namespace' in object.value ? objectKey(object.value) : object.value.name}`
}

/** Reads one manifest of any kind. A List is expanded; what is wrong with one object never touches the others. */
export function parseManifest(manifest: unknown, options?: ReadOptions): ParsedManifest[] {
  const result: ParsedManifest[] = []
  expand(manifest, { path: '', options, result })
  return result
}

interface Expansion {
  /** Where the object stands in its document; empty, or `items[3]`. */
  readonly path: string
  readonly options: ReadOptions | undefined
  readonly result: ParsedManifest[]
}

function expand(manifest: unknown, at: Expansion): void {
  const reader = ManifestReader.of(manifest)
  const apiVersion = reader.text('apiVersion')
  const kind = reader.text('kind')
  if (reader.problems.length === 0 && apiVersion === undefined)
    reader.fail('apiVersion', 'is missing (expected like v1)')
  if (reader.problems.length === 0 && kind === undefined) reader.fail('kind', 'is missing (expected like Service)')
  if (kind?.endsWith('List') && Array.isArray(reader.raw('items'))) {
    if (at.path !== '') {
      const problem = { path: at.path, reason: `is a ${kind} inside a List (expected an object)` }
      at.result.push({ kind: 'refused', id: idOf(reader, kind), problems: [problem] })
      return
    }
    const itemKind = kind.slice(0, -'List'.length)
    for (const [index, item] of reader.list('items').entries()) {
      // The items of a typed list (ServiceList) leave out what the list already says.
      const whole =
        itemKind !== '' && typeof item === 'object' && item !== null ? { apiVersion, kind: itemKind, ...item } : item
      expand(whole, { ...at, path: `items[${index}]` })
    }
    return
  }
  if (reader.problems.length > 0) {
    at.result.push({ kind: 'refused', id: idOf(reader, kind), problems: below(at.path, reader.problems) })
    return
  }
  const group = `${apiVersion} ${kind}`
  try {
    at.result.push(parseOne(manifest, group, at))
  } catch (error) {
    if (!(error instanceof ManifestError)) throw error
    at.result.push({ kind: 'refused', id: idOf(reader, kind), problems: below(at.path, error.problems) })
  }
}

function parseOne(manifest: unknown, group: string, at: Expansion): ParsedManifest {
  switch (group) {
    case 'v1 Service':
      return whole({ kind: 'Service', value: parseService(manifest, at.options) })
    case 'v1 Pod':
      return parsedPod(parsePod(manifest, at.options), at.path)
    case 'v1 Node':
      return whole({ kind: 'Node', value: parseNode(manifest, at.options) })
    case 'v1 Namespace':
      return whole({ kind: 'Namespace', value: parseNamespace(manifest, at.options) })
    case `${fairleadApi} Network`:
      return whole({ kind: 'Network', value: parseNetworkManifest(manifest, at.options) })
    case 'networking.k8s.io/v1 ServiceCIDR':
      return whole({ kind: 'ServiceCIDR', value: parseServiceCIDR(manifest, at.options) })
    case 'discovery.k8s.io/v1 EndpointSlice': {
      const parsed = parseEndpointSlice(manifest, at.options)
      if (parsed.kind === 'skipped') {
        const id = idOf(ManifestReader.of(manifest), 'EndpointSlice')
        return { kind: 'skipped', id, problem: below(at.path, [parsed.problem])[0] ?? parsed.problem }
      }
      const object: ManifestObject = { kind: 'EndpointSlice', value: parsed.slice }
      return { kind: 'object', object, problems: below(at.path, parsed.problems) }
    }
    case 'discovery.k8s.io/v1beta1 EndpointSlice':
      throw new ManifestError(idOf(ManifestReader.of(manifest), 'EndpointSlice'), [
        { path: 'apiVersion', reason: `${show('discovery.k8s.io/v1beta1')} is gone (expected discovery.k8s.io/v1)` },
      ])
    default:
      return { kind: 'ignored', apiKind: group }
  }
}

function whole(object: ManifestObject): ParsedManifest {
  return { kind: 'object', object, problems: [] }
}

/** A pod's weight is read where its endpoints are made; what is wrong with it is said here. */
function parsedPod(value: Pod, path: string): ParsedManifest {
  const problems: FieldProblem[] = []
  readWeights(value.annotations, problems)
  return { kind: 'object', object: { kind: 'Pod', value }, problems: below(path, problems) }
}

/** The object's own name, as far as it can be read. */
function idOf(reader: ManifestReader, kind: string | undefined): string {
  const metadata = ManifestReader.of(reader.raw('metadata') ?? {})
  const name = metadata.text('name') ?? ''
  const key = ['Node', 'Namespace', 'Network', 'ServiceCIDR'].includes(kind ?? '')
    ? name
    : `${metadata.text('namespace') ?? 'default'}/${name}`
  return `${kind ?? 'object'} ${key}`
}

function below(path: string, problems: readonly FieldProblem[]): readonly FieldProblem[] {
  if (path === '') return problems
  return problems.map((p) => ({ path: p.path === '' ? path : `${path}.${p.path}`, reason: p.reason }))
}
