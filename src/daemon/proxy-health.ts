import type { Node } from '../model/node.ts'
import type { SyncStatus } from '../proxy/sync-loop.ts'
import type { Routes } from './http-server.ts'

/** The body of kube-proxy's `/livez` and `/healthz` (pkg/proxy/healthcheck/proxy_health.go of 1.36). */
export interface ProxyHealthView {
  readonly lastUpdated: string
  readonly currentTime: string
  /** Only `/healthz` has it. */
  readonly nodeEligible?: boolean
  readonly healthy: boolean
  readonly status?: Readonly<Record<'IPv4' | 'IPv6', { readonly lastUpdated: string; readonly healthy: boolean }>>
}

/** The taint by which the cluster autoscaler says that the node goes. */
const goingTaint = 'ToBeDeletedByClusterAutoscaler'

/** Healthy is a proxy that has no change waiting for longer than `overdueMs`; before its first sync it is, too. */
export function proxyHealth(
  sync: Pick<SyncStatus, 'lastSync' | 'pendingMs'>,
  { overdueMs, now }: { readonly overdueMs: number; readonly now: Date },
): ProxyHealthView {
  const currentTime = now.toISOString()
  if (!sync.lastSync) return { lastUpdated: currentTime, currentTime, healthy: true }
  const healthy = sync.pendingMs < overdueMs
  const family = { lastUpdated: sync.lastSync.toISOString(), healthy }
  // While all is well the time is now: nothing older is known to be missing.
  const lastUpdated = healthy ? currentTime : family.lastUpdated
  return { lastUpdated, currentTime, healthy, status: { IPv4: family, IPv6: family } }
}

/** Whether load balancers may send new connections to this node: it is not about to be deleted. */
export function isNodeEligible(node: Node): boolean {
  return node.deletionTimestamp === undefined && !(node.taints ?? []).includes(goingTaint)
}

/** `/healthz` and `/livez`. `onAnswer` hears each answer's status. */
export function proxyHealthRoutes(options: {
  readonly health: () => ProxyHealthView
  readonly nodeEligible: () => boolean
  readonly onAnswer: (route: 'healthz' | 'livez', status: number) => void
}): Routes {
  const answer = (route: 'healthz' | 'livez', healthy: boolean, view: ProxyHealthView) => {
    const status = healthy ? 200 : 503
    options.onAnswer(route, status)
    return { status, json: view }
  }
  return {
    'GET /healthz': () => {
      const { lastUpdated, currentTime, ...rest } = options.health()
      const nodeEligible = options.nodeEligible()
      return answer('healthz', rest.healthy && nodeEligible, { lastUpdated, currentTime, nodeEligible, ...rest })
    },
    'GET /livez': () => {
      const view = options.health()
      return answer('livez', view.healthy, view)
    },
  }
}
