import { Gauge, type Registry } from 'prom-client'
import type { ClusterView, StatusView } from './control-api.ts'

/** Figures of this machine as a node, read from the status at scrape time; without a cluster there are none. */
export function createNodeMetrics(registry: Registry, status: () => StatusView): void {
  const registers = [registry]
  const gauge = (name: string, help: string, read: (cluster: ClusterView) => number | undefined): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const { cluster } = status()
        const value = cluster && read(cluster)
        if (value === undefined) this.remove()
        else this.set(value)
      },
    })
  }
  gauge('fairlead_node_heartbeat_age_seconds', 'Since the Lease of this node was renewed.', (c) => c.renewedSeconds)
  gauge(
    'fairlead_node_problems',
    'What is wrong with this node, its pods in the API, or routes.',
    (c) => c.problems.length,
  )
  gauge('fairlead_pod_routes', "Routes to other nodes' pods.", (c) => c.routes.length)
  new Gauge({
    name: 'fairlead_nodes',
    help: 'Nodes that are followed, by their condition Ready.',
    labelNames: ['ready'],
    registers,
    collect() {
      this.reset()
      for (const { ready } of status().cluster?.nodes ?? []) this.inc({ ready })
    },
  })
}
