import { Counter, Gauge, type Registry } from 'prom-client'
import type { ResourceView, StatusView } from './control-api.ts'

/** What a Docker engine's containers are called among the resources of sources. */
export const dockerResource = 'containers'

/** Metrics of the Docker engine that is followed; without one, none has a sample. Read from the status at scrape time. */
export function createDockerMetrics(registry: Registry, status: () => StatusView): void {
  const registers = [registry]
  const engine = (): ResourceView | undefined =>
    status()
      .sources.list.flatMap(({ resources }) => resources)
      .find(({ resource }) => resource === dockerResource)
  const gauge = (name: string, help: string, read: (view: ResourceView) => number | undefined): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const view = engine()
        const value = view && read(view)
        this.remove()
        if (value !== undefined) this.set(value)
      },
    })
  }
  const counter = (name: string, help: string, read: (view: ResourceView) => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        const view = engine()
        this.remove()
        if (view) this.inc(read(view))
      },
    })
  }
  gauge('fairlead_docker_connected', '1 while the events of Docker are heard.', (view) => Number(view.connected))
  gauge('fairlead_docker_age_seconds', 'Since the last event or list of Docker.', (view) => view.ageSeconds)
  gauge('fairlead_docker_containers', 'Containers with labels for us.', (view) => view.objects)
  counter('fairlead_docker_events_total', 'Events that were looked into.', (view) => view.events)
  counter('fairlead_docker_failures_total', 'Times that Docker could not be followed.', (view) => view.failures)
}
