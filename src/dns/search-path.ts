import { isAtOrBelow, labelsOfKey, type Name, nameOfLabels } from '../dns-message/name.ts'
import type { Question } from '../dns-message/query.ts'
import { recordTypes } from '../dns-message/record-set.ts'
import type { SearchCandidate, SearchPaths } from './resolve.ts'

export interface PodSearchPathsOptions {
  readonly zone: Name
  /** The namespace of the pod that has an address; undefined: it is no pod's, or nobody can say for sure. */
  readonly namespaceOf: (client: string) => string | undefined
  /** What stands in the search path of pods behind the domains of the cluster. */
  readonly more?: readonly Name[]
}

/** Types that the C library walks the search path for. */
const searchedTypes: ReadonlySet<number> = new Set([recordTypes.A, recordTypes.AAAA])

/**
 * The search path of the pod that asks (`NAMESPACE.svc.ZONE svc.ZONE ZONE`, and what the node adds): with `ndots:5` a pod that wants `api.example.com`
 * asks for `api.example.com.NAMESPACE.svc.ZONE` first, and would ask for the others next. Only the first domain of its own path
 * begins a walk: the same name from elsewhere is just a name that does not exist.
 */
export class PodSearchPaths implements SearchPaths {
  readonly #options: PodSearchPathsOptions

  constructor(options: PodSearchPathsOptions) {
    this.#options = options
  }

  candidates({ name, type }: Question, client: string): readonly SearchCandidate[] {
    const { zone, namespaceOf, more = [] } = this.#options
    if (!searchedTypes.has(type) || !isAtOrBelow(name.key, zone.key)) return []
    const zoneLabels = labelsOfKey(zone.key)
    const labels = labelsOfKey(name.key)
    const own = labels.slice(0, labels.length - zoneLabels.length)
    const [kind, namespace] = [own.at(-1), own.at(-2)]
    const wanted = own.slice(0, -2)
    if (kind !== 'svc' || namespace === undefined || wanted.length === 0 || namespaceOf(client) !== namespace) return []
    const domains = [['svc', ...zoneLabels], zoneLabels, ...more.map(({ key }) => labelsOfKey(key)), []]
    return domains.flatMap((domain): SearchCandidate[] => {
      const candidate = nameOfLabels([...wanted, ...domain])
      // A name of one label is a pod's, or nobody's: `dev.` and `zip.` exist in the world, and a Service that is not there must not become one of them.
      return candidate ? [{ name: candidate, abroad: domain.length > 0 || wanted.length > 1 }] : []
    })
  }
}
