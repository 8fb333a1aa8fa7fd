import { Counter, Gauge, type Registry } from 'prom-client'
import type { ResourceView } from './control-api.ts'
import { dockerResource } from './docker-metrics.ts'

/** Metrics of the API server that is followed, one series per resource of `list`, which is read at scrape time. */
export function createKubernetesMetrics(registry: Registry, list: () => readonly ResourceView[]): void {
  const registers = [registry]
  const labelNames = ['resource']
  const resources = () => list().filter(({ resource }) => resource !== dockerResource)
  const gauge = (name: string, help: string, read: (view: ResourceView) => number | undefined): void => {
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset()
        for (const view of resources()) {
          const value = read(view)
          if (value !== undefined) this.set({ resource: view.resource }, value)
        }
      },
    })
  }
  const counter = (name: string, help: string, read: (view: ResourceView) => number): void => {
    new Counter({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset()
        for (const view of resources()) this.inc({ resource: view.resource }, read(view))
      },
    })
  }
  gauge('fairlead_kubernetes_connected', '1 while a watch is open.', (view) => Number(view.connected))
  gauge(
    'fairlead_kubernetes_age_seconds',
    'Since the last event, bookmark or list of the API server.',
    (view) => view.ageSeconds,
  )
  gauge('fairlead_kubernetes_objects', 'Objects that are followed.', (view) => view.objects)
  counter(
    'fairlead_kubernetes_lists_total',
    'Complete lists; more than one means that a watch could not go on.',
    (view) => view.lists,
  )
  counter('fairlead_kubernetes_events_total', 'Events of watches.', (view) => view.events)
  counter('fairlead_kubernetes_failures_total', 'Lists and watches that failed.', (view) => view.failures)
  counter(
    'fairlead_kubernetes_audit_failures_total',
    'Audits that found changes which a watch had lost.',
    (view) => view.auditFailures,
  )
}
