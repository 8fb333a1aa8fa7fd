import { isJsonObject, type JsonObject } from './kube-object.ts'
import { resourceTypeOf, type ResourceType } from './resources.ts'

/** The group that newer clients write Events in (kube-proxy among them). Its objects are those of the core group, with other words. */
export const eventsGroup: ResourceType = { ...resourceTypeOf('Event'), group: 'events.k8s.io' }

/** Fields of events.k8s.io/v1, and what core/v1 calls them (k8s.io/kubernetes/pkg/apis/events/v1/conversion.go). */
const words: Readonly<Record<string, string>> = {
  note: 'message',
  regarding: 'involvedObject',
  reportingController: 'reportingComponent',
  deprecatedSource: 'source',
  deprecatedFirstTimestamp: 'firstTimestamp',
  deprecatedLastTimestamp: 'lastTimestamp',
  deprecatedCount: 'count',
}
const coreWords = Object.fromEntries(Object.entries(words).map(([here, core]) => [core, here]))

/** An Event of events.k8s.io/v1, or a patch of one, in the words of core/v1. What is no object is left to whoever looks at it next. */
export function toCoreEvent(body: unknown): unknown {
  return isJsonObject(body) ? renamed(body, { names: words, from: 'events.k8s.io/v1', to: 'v1' }) : body
}

/** An Event of core/v1 in the words of events.k8s.io/v1. */
export function fromCoreEvent(object: object): JsonObject {
  return renamed(object as JsonObject, { names: coreWords, from: 'v1', to: 'events.k8s.io/v1' })
}

function renamed(
  object: JsonObject,
  { names, from, to }: { readonly names: Readonly<Record<string, string>>; readonly from: string; readonly to: string },
): JsonObject {
  const entries = Object.entries(object).map(([key, value]) => {
    if (key === 'apiVersion') return [key, value === from ? to : value]
    return [Object.hasOwn(names, key) ? names[key] : key, value]
  })
  return Object.fromEntries(entries) as JsonObject
}
