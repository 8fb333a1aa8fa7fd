import type { FollowedResource, FollowingSource, Source } from '../sources/source.ts'
import type { ResourceView, SourceView } from './control-api.ts'

/** A source as the control API shows it. */
export function viewSource(source: Source | FollowingSource): SourceView {
  const { snapshot, synced, problems } = source.current
  const sizes = Object.entries(snapshot).map(([kind, map]: [string, { readonly size: number }]) => [kind, map.size])
  return {
    name: source.name,
    synced,
    objects: Object.fromEntries(sizes) as Record<string, number>,
    problems: problems.filter(({ severity }) => severity === 'error').length,
    resources: 'status' in source ? source.status().map(viewResource) : [],
  }
}

function viewResource(status: FollowedResource): ResourceView {
  const { resource, synced, connected, objects, ageMs, lists, watches, events, failures, auditFailures, error } = status
  const ageSeconds = ageMs === undefined ? undefined : ageMs / 1000
  return { resource, synced, connected, objects, ageSeconds, lists, watches, events, failures, auditFailures, error }
}
