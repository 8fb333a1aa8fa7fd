import { chmodSync, mkdirSync, rmSync } from 'node:fs'
import { createConnection, type Server } from 'node:net'
import { dirname } from 'node:path'
import type { ConnectPodRequest, NetworkRequest, PodPortsBody, PodRequest } from './control-api.ts'
import { formatEvent } from './events.ts'
import { HttpError, type Request, type Routes } from './http-server.ts'
import type { Daemon } from './start.ts'

/** The routes of the control socket; see control-api.ts. */
export function controlRoutes(
  daemon: Pick<
    Daemon,
    'status' | 'pods' | 'networks' | 'modes' | 'inspection' | 'configuration' | 'nodeTokens' | 'events'
  >,
): Routes {
  const name = ({ params }: Request): [string, string] => [params['namespace'] ?? '', params['name'] ?? '']
  return {
    'GET /status': () => ({ json: daemon.status() }),
    'GET /explain': async ({ query }) => ({
      json: await daemon.inspection.explain(query.get('from'), query.get('to')),
    }),
    'GET /verify': async () => ({ json: await daemon.inspection.verify() }),
    'GET /mode': () => ({ json: daemon.modes.view() }),
    'POST /mode': async ({ body }) => ({
      json: await daemon.modes.set((body as { mode?: unknown } | undefined)?.mode),
    }),
    'POST /reload': async () => ({ json: await daemon.configuration.reload() }),
    'GET /api/nodes': () => ({ json: daemon.nodeTokens.list() }),
    'POST /api/nodes/:node/token': ({ params, body }) => ({
      status: 201,
      json: daemon.nodeTokens.issue(params['node'] ?? '', body),
    }),
    'DELETE /api/nodes/:node/token': ({ params }) => {
      daemon.nodeTokens.revoke(params['node'] ?? '')
      return { json: {} }
    },
    'GET /networks': () => ({ json: { networks: daemon.networks.list() } }),
    'POST /networks': async ({ body }) => ({
      status: 201,
      json: await daemon.networks.create(readNetworkRequest(body)),
    }),
    'GET /networks/:name': async ({ params }) => ({ json: await daemon.networks.inspect(params['name'] ?? '') }),
    'POST /networks/:name/pods': async ({ params, body }) => ({
      json: await daemon.pods.connect(params['name'] ?? '', readConnectRequest(body)),
    }),
    'DELETE /networks/:name/pods/:namespace/:pod': async ({ params }) => {
      const pod = { namespace: params['namespace'] ?? '', name: params['pod'] ?? '' }
      await daemon.pods.disconnect(params['name'] ?? '', pod)
      return { json: {} }
    },
    'DELETE /networks/:name': async ({ params }) => {
      await daemon.networks.remove(params['name'] ?? '')
      return { json: {} }
    },
    'GET /pods': () => ({ json: { pods: daemon.pods.list() } }),
    'POST /pods': async ({ body }) => ({ status: 201, json: await daemon.pods.run(readPodRequest(body)) }),
    'GET /pods/:namespace/:name/exec': async (request) => ({
      json: { argv: await daemon.pods.exec(...name(request)) },
    }),
    'POST /pods/:namespace/:name/ports': async ({ params, body }) => {
      const pod = { namespace: params['namespace'] ?? '', name: params['name'] ?? '' }
      return { json: await daemon.pods.changePorts(pod, readPortsBody(body)) }
    },
    'DELETE /pods/:namespace/:name': async (request) => {
      await daemon.pods.remove(...name(request))
      return { json: {} }
    },
    'GET /events': () => ({
      stream(response) {
        response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' })
        for (const event of daemon.events.recent) response.write(`${formatEvent(event)}\n`)
        const stop = daemon.events.follow((event) => response.write(`${formatEvent(event)}\n`))
        response.on('close', stop)
      },
    }),
  }
}

function readNetworkRequest(body: unknown): NetworkRequest {
  if (typeof body !== 'object' || body === null) throw new HttpError(400, 'expected a JSON object with the network')
  const { name } = body as Record<string, unknown>
  if (typeof name !== 'string') throw new HttpError(400, `name: ${JSON.stringify(name)} is not a string`)
  return { ...body, name }
}

function readConnectRequest(body: unknown): ConnectPodRequest {
  if (typeof body !== 'object' || body === null) throw new HttpError(400, 'expected a JSON object with the pod')
  const { namespace = 'default', name, interfaceName } = body as Record<string, unknown>
  if (typeof name !== 'string') throw new HttpError(400, `name: ${JSON.stringify(name)} is not a string`)
  if (typeof namespace !== 'string') throw new HttpError(400, `namespace: ${JSON.stringify(namespace)} is not a string`)
  if (interfaceName !== undefined && typeof interfaceName !== 'string') {
    throw new HttpError(400, `interfaceName: ${JSON.stringify(interfaceName)} is not a string`)
  }
  return { namespace, name, ...readEndpoint(body), ...(interfaceName !== undefined && { interfaceName }) }
}

function readPortsBody(body: unknown): PodPortsBody {
  if (typeof body !== 'object' || body === null) throw new HttpError(400, 'expected a JSON object with ports')
  const { network } = body as Record<string, unknown>
  if (network !== undefined && typeof network !== 'string') {
    throw new HttpError(400, `network: ${JSON.stringify(network)} is not a string`)
  }
  return { ...readTexts(body, ['publish', 'unpublish']), ...(network !== undefined && { network }) }
}

/** Lists of strings, those that are there. */
function readTexts<F extends string>(
  body: object,
  fields: readonly F[],
): { readonly [field in F]?: readonly string[] } {
  const lists: { [field in F]?: readonly string[] } = {}
  for (const field of fields) {
    const value = (body as Record<string, unknown>)[field]
    if (value === undefined) continue
    if (!isTexts(value)) throw new HttpError(400, `${field}: expected a list of strings`)
    lists[field] = value
  }
  return lists
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}

/** What a pod is to have in a network. */
function readEndpoint(body: object): Pick<PodRequest, 'ips' | 'publish' | 'aliases'> & { readonly mac?: string } {
  const { mac } = body as Record<string, unknown>
  if (mac !== undefined && typeof mac !== 'string') throw new HttpError(400, 'mac: expected a string')
  return { ...readTexts(body, ['ips', 'publish', 'aliases']), ...(mac !== undefined && { mac }) }
}

function readPodRequest(body: unknown): PodRequest {
  if (typeof body !== 'object' || body === null) throw new HttpError(400, 'expected a JSON object with the pod to run')
  const {
    namespace = 'default',
    name,
    labels = {},
    network = 'default',
    command = [],
    readinessProbe,
  } = body as Record<string, unknown>
  if (typeof name !== 'string') throw new HttpError(400, `name: ${JSON.stringify(name)} is not a string`)
  if (typeof namespace !== 'string') throw new HttpError(400, `namespace: ${JSON.stringify(namespace)} is not a string`)
  if (typeof network !== 'string') throw new HttpError(400, `network: ${JSON.stringify(network)} is not a string`)
  if (!isTexts(command)) throw new HttpError(400, 'command: expected a list of strings')
  if (typeof labels !== 'object' || labels === null || !isTexts(Object.values(labels))) {
    throw new HttpError(400, 'labels: expected an object of strings')
  }
  const pod = { namespace, name, labels: labels as Record<string, string>, network, command }
  return { ...pod, ...readEndpoint(body), ...(readinessProbe !== undefined && { readinessProbe }) }
}

/** Listens on a unix socket that only its owner may use. A socket that nobody listens on any more is replaced. */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  // sun_path of unix(7) has 108 bytes with the NUL; libuv's EINVAL would not say so.
  if (Buffer.byteLength(path) > 107) throw new SocketError(path, 'the path is longer than 107 bytes')
  if (await answers(path)) throw new SocketTakenError(path)
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
    rmSync(path, { force: true })
    await listen(server, path)
    chmodSync(path, 0o600)
  } catch (error) {
    throw new SocketError(path, (error as Error).message, { cause: error })
  }
}

async function listen(server: Server, path: string): Promise<void> {
  // The socket is born with the mode that the umask leaves: nobody else may connect before chmod.
  const before = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, () => {
        server.off('error', reject)
        resolve()
      })
    })
  } finally {
    process.umask(before)
  }
}

/** The control socket cannot be made. */
export class SocketError extends Error {
  override readonly name = 'SocketError'

  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`controlSocket: cannot listen on ${path}: ${reason}`, options)
  }
}

/** Another daemon listens there. */
export class SocketTakenError extends Error {
  override readonly name = 'SocketTakenError'

  constructor(path: string) {
    super(
      `another daemon answers on ${path}; stop it first, or give this one a controlSocket (and stateDir) of its own`,
    )
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
