import { reviewTypes } from './access-review.ts'
import { eventsGroup } from './events-group.ts'
import { groupVersion, resourceTypes, type ResourceType } from './resources.ts'

/** A kind, and what can be done with its objects. */
type Served = ResourceType & { readonly verbs: readonly string[] }

const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch']
/** All that is served, in the order in which it is listed. */
const served: readonly Served[] = [
  ...[...resourceTypes, eventsGroup].map((type) => ({ ...type, verbs })),
  ...reviewTypes.map((review) => ({
    ...review,
    verbs: ['create'],
    singular: review.kind.toLowerCase(),
    shortNames: [],
    namespaced: false,
    hasStatus: false,
    hasGeneration: false,
    selectableFields: [],
  })),
]
const statusVerbs = ['get', 'patch', 'update']

/** `APIVersions`: the versions of the core group (`/api`). */
export function describeVersions(): object {
  return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] }
}

/** `APIGroupList` (`/apis`). */
export function describeGroups(): object {
  return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups().map(describeOne) }
}

/** `APIGroup` (`/apis/GROUP`); undefined when there is none. */
export function describeGroup(group: string): object | undefined {
  if (!groups().includes(group)) return undefined
  return { kind: 'APIGroup', apiVersion: 'v1', ...describeOne(group) }
}

/** `APIResourceList` (`/api/v1`, `/apis/GROUP/VERSION`). */
export function describeResources(version: string): object {
  const resources = typesOf(version).flatMap((type) => {
    const { kind, plural, singular, namespaced, shortNames, categories, verbs } = type
    const whole = {
      name: plural,
      singularName: singular,
      namespaced,
      kind,
      verbs,
      ...(shortNames.length > 0 && { shortNames }),
      ...(categories && { categories }),
    }
    const status = { name: `${plural}/status`, singularName: '', namespaced, kind, verbs: statusVerbs }
    return type.hasStatus ? [whole, status] : [whole]
  })
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: version, resources }
}

/** `APIGroupDiscoveryList`: everything at once (KEP-3352), of the core group or of all others. */
export function describeAll(which: 'core' | 'named', version: 'v2' | 'v2beta1'): object {
  const items = (which === 'core' ? [''] : groups()).map((group) => {
    const versions = versionsOf(group).map((version) => ({
      version: version.split('/').at(-1),
      freshness: 'Current',
      resources: typesOf(version).map(aggregated),
    }))
    return { metadata: { name: group, creationTimestamp: null }, versions }
  })
  return { kind: 'APIGroupDiscoveryList', apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {}, items }
}

function aggregated(type: Served): object {
  const { group, version, kind, plural, singular, shortNames, categories, hasStatus, namespaced, verbs } = type
  const responseKind = { group, version, kind }
  return {
    resource: plural,
    responseKind,
    scope: namespaced ? 'Namespaced' : 'Cluster',
    singularResource: singular,
    verbs,
    ...(shortNames.length > 0 && { shortNames }),
    ...(categories && { categories }),
    ...(hasStatus && { subresources: [{ subresource: 'status', responseKind, verbs: statusVerbs }] }),
  }
}

function groups(): string[] {
  return [...new Set(served.map(({ group }) => group))].filter((group) => group !== '').sort()
}

function versionsOf(group: string): string[] {
  return [...new Set(served.filter((type) => type.group === group).map(groupVersion))]
}

function typesOf(version: string): readonly Served[] {
  return served.filter((type) => groupVersion(type) === version)
}

function describeOne(name: string): object {
  const versions = versionsOf(name).map((text) => ({ groupVersion: text, version: text.split('/').at(-1) }))
  return { name, versions, preferredVersion: versions[0] }
}
