import { fairleadApi } from '../model/parse-network.ts'

/** A kind of objects that the server has. */
export interface ResourceType {
  /** Empty for the core group. */
  readonly group: string
  readonly version: string
  readonly kind: string
  /** In paths: `services`. */
  readonly plural: string
  readonly singular: string
  readonly shortNames: readonly string[]
  readonly namespaced: boolean
  /** It has the subresource `status`, and writes of the object itself leave `status` alone. */
  readonly hasStatus: boolean
  /** `metadata.generation` counts changes of its `spec`. */
  readonly hasGeneration: boolean
  /** Fields that field selectors may name, besides name and namespace. */
  readonly selectableFields: readonly string[]
  readonly categories?: readonly string[]
}

const [fairleadGroup = '', fairleadVersion = ''] = fairleadApi.split('/')
const core = { group: '', version: 'v1', namespaced: true, hasStatus: true, hasGeneration: false, selectableFields: [] }

/** All kinds, in the order in which discovery lists them. */
export const resourceTypes: readonly ResourceType[] = [
  { ...core, kind: 'Endpoints', plural: 'endpoints', singular: 'endpoints', shortNames: ['ep'], hasStatus: false },
  {
    ...core,
    kind: 'Event',
    plural: 'events',
    singular: 'event',
    shortNames: ['ev'],
    hasStatus: false,
    selectableFields: [
      'involvedObject.kind',
      'involvedObject.namespace',
      'involvedObject.name',
      'involvedObject.uid',
      'involvedObject.apiVersion',
      'involvedObject.resourceVersion',
      'involvedObject.fieldPath',
      'reason',
      'reportingComponent',
      'source',
      'type',
    ],
  },
  {
    ...core,
    kind: 'Namespace',
    plural: 'namespaces',
    singular: 'namespace',
    shortNames: ['ns'],
    namespaced: false,
    selectableFields: ['status.phase'],
  },
  {
    ...core,
    kind: 'Node',
    plural: 'nodes',
    singular: 'node',
    shortNames: ['no'],
    namespaced: false,
    selectableFields: ['spec.unschedulable'],
  },
  {
    ...core,
    kind: 'Pod',
    plural: 'pods',
    singular: 'pod',
    shortNames: ['po'],
    hasGeneration: true,
    selectableFields: [
      'spec.nodeName',
      'spec.restartPolicy',
      'spec.schedulerName',
      'spec.serviceAccountName',
      'spec.hostNetwork',
      'status.phase',
      'status.podIP',
      'status.nominatedNodeName',
    ],
    categories: ['all'],
  },
  {
    ...core,
    kind: 'Service',
    plural: 'services',
    singular: 'service',
    shortNames: ['svc'],
    selectableFields: ['spec.clusterIP', 'spec.type'],
    categories: ['all'],
  },
  {
    ...core,
    group: 'coordination.k8s.io',
    kind: 'Lease',
    plural: 'leases',
    singular: 'lease',
    shortNames: [],
    hasStatus: false,
  },
  {
    ...core,
    group: 'discovery.k8s.io',
    kind: 'EndpointSlice',
    plural: 'endpointslices',
    singular: 'endpointslice',
    shortNames: [],
    hasStatus: false,
    hasGeneration: true,
  },
  {
    ...core,
    group: fairleadGroup,
    version: fairleadVersion,
    kind: 'Network',
    plural: 'networks',
    singular: 'network',
    shortNames: ['net'],
    namespaced: false,
    hasGeneration: true,
  },
  {
    ...core,
    group: 'networking.k8s.io',
    kind: 'ServiceCIDR',
    plural: 'servicecidrs',
    singular: 'servicecidr',
    shortNames: [],
    namespaced: false,
  },
]

/** `v1`, `discovery.k8s.io/v1`. */
export function groupVersion(type: ResourceType): string {
  return type.group === '' ? type.version : `${type.group}/${type.version}`
}

/** `services`, `endpointslices.discovery.k8s.io`: as messages name a kind. */
export function qualifiedName(type: ResourceType): string {
  return type.group === '' ? type.plural : `${type.plural}.${type.group}`
}

/** The kind of this name. Throws when the server has none. */
export function resourceTypeOf(kind: string): ResourceType {
  const type = resourceTypes.find((type) => type.kind === kind)
  if (!type) throw new TypeError(`no kind ${kind}`)
  return type
}
