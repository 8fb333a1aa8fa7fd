import type { Registry } from 'prom-client'
import type { Routes } from './http-server.ts'
import type { DaemonStatus } from './status.ts'

/** `/healthz`, `/readyz` and `/metrics`. */
export function healthRoutes(status: Pick<DaemonStatus, 'view' | 'complaints'>, registry: Registry): Routes {
  return {
    'GET /healthz': () => {
      const complaints = status.complaints()
      return complaints.length === 0 ? { text: 'ok\n' } : { status: 503, text: `${complaints.join('\n')}\n` }
    },
    'GET /readyz': () => {
      const { ready, waitingFor } = status.view()
      return ready ? { text: 'ok\n' } : { status: 503, text: `waiting for ${waitingFor.join(', ')}\n` }
    },
    'GET /metrics': async () => ({ text: await registry.metrics(), type: registry.contentType }),
  }
}
