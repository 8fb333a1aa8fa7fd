import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { silentLog } from '../base/log.ts'
import { DockerSource } from './docker.ts'

/** An engine that has the containers it is given, over a real socket. */
class FakeEngine {
  readonly socket: string
  readonly containers = new Map<string, object>()
  readonly #streams = new Set<ServerResponse>()
  /** Answers of this status to everything but events. */
  refuse: number | undefined
  lists = 0
  readonly #server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '', 'http://docker')
    if (pathname === '/events') {
      this.#streams.add(response)
      response.writeHead(200).flushHeaders()
    } else if (this.refuse !== undefined) response.writeHead(this.refuse).end('{"message":"no"}')
    else if (pathname === '/containers/json') {
      this.lists++
      const labels = { Labels: { 'fairlead.service': 'web' } }
      response.end(JSON.stringify([...this.containers.keys()].map((Id) => ({ Id, ...labels }))))
    } else {
      const found = this.containers.get(pathname.split('/')[2] ?? '')
      response.writeHead(found ? 200 : 404).end(JSON.stringify(found ?? { message: 'no such container' }))
    }
  })

  constructor(socket: string) {
    this.socket = socket
  }

  async listen(): Promise<void> {
    this.#server.listen(this.socket)
    await once(this.#server, 'listening')
  }

  put(id: string, fields: { ip?: string; running?: boolean; health?: string } = {}): void {
    const { ip = '172.17.0.2', running = true, health } = fields
    this.containers.set(id, {
      Id: id,
      Name: `/${id}`,
      Created: '2026-01-01T00:00:00Z',
      Config: { Labels: { 'fairlead.service': 'web', 'fairlead.port': '80' }, StopSignal: 'SIGTERM', StopTimeout: 1 },
      State: { Running: running, ...(health !== undefined && { Health: { Status: health } }) },
      NetworkSettings: { Networks: { bridge: { IPAddress: ip, GlobalIPv6Address: '' } } },
    })
  }

  say(action: string, id: string, attributes: object = {}): void {
    const event = { Type: 'container', Action: action, Actor: { ID: id, Attributes: attributes } }
    for (const stream of this.#streams) stream.write(`${JSON.stringify(event)}\n`)
  }

  /** As dockerd does when it ends. */
  async stop(): Promise<void> {
    this.#server.close()
    this.#server.closeAllConnections()
    this.#streams.clear()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

let folder = ''
let engine: FakeEngine
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fairlead-docker-'))
  engine = new FakeEngine(join(folder, 'docker.sock'))
  await engine.listen()
})
afterEach(async () => {
  await engine.stop()
  rmSync(folder, { recursive: true, force: true })
})

function follow(): DockerSource {
  return new DockerSource({ socket: engine.socket, nodeName: 'node-1', log: silentLog })
}

const readyPods = (source: DockerSource): string[] =>
  [...source.current.snapshot.pods.values()]
    .filter(({ ready, terminating }) => ready && !terminating)
    .map(({ name }) => name)
    .toSorted()

test('DockerSource is complete after the first list, and follows what events name', async () => {
  engine.put('a')
  using source = follow()
  expect(source.current.synced).toBe(false)
  await vi.waitFor(() => expect(source.current.synced).toBe(true))
  expect(readyPods(source)).toEqual(['a'])
  const service = source.current.snapshot.services.get('default/web')

  engine.put('b', { health: 'starting' })
  engine.say('start', 'b')
  await vi.waitFor(() => expect(source.current.snapshot.pods.size).toBe(2))
  expect(readyPods(source)).toEqual(['a'])
  expect(source.current.snapshot.services.get('default/web')).toBe(service)
  engine.put('b', { health: 'healthy' })
  engine.say('health_status: healthy', 'b')
  await vi.waitFor(() => expect(readyPods(source)).toEqual(['a', 'b']))

  engine.containers.delete('a')
  engine.say('destroy', 'a')
  await vi.waitFor(() => expect(readyPods(source)).toEqual(['b']))
  expect(engine.lists).toBe(1)
})

test('DockerSource has a container that was told to stop as terminating, until it ended or did not', async () => {
  engine.put('a')
  using source = follow()
  await vi.waitFor(() => expect(readyPods(source)).toEqual(['a']))
  engine.say('kill', 'a', { signal: '1' })
  engine.say('kill', 'a', { signal: '15' })
  await vi.waitFor(() => expect(source.current.snapshot.pods.get('default/a')).toMatchObject({ terminating: true }))
  engine.put('a', { running: false })
  engine.say('die', 'a')
  await vi.waitFor(() => expect(source.current.snapshot.pods.size).toBe(0))
  engine.put('a')
  engine.say('start', 'a')
  await vi.waitFor(() => expect(readyPods(source)).toEqual(['a']))
})

test('DockerSource keeps what it has while the engine is away, and then takes what is there', async () => {
  engine.put('a')
  using source = follow()
  await vi.waitFor(() => expect(source.current.synced).toBe(true))
  await engine.stop()
  await vi.waitFor(() => expect(source.status()).toMatchObject([{ connected: false }]))
  expect(readyPods(source)).toEqual(['a'])
  expect(source.current.problems).toMatchObject([{ reason: expect.stringContaining('cannot be followed') as string }])

  const again = new FakeEngine(engine.socket)
  again.put('b')
  await again.listen()
  engine = again
  await vi.waitFor(() => expect(readyPods(source)).toEqual(['b']), { timeout: 3000 })
  expect(source.current.problems).toEqual([])
  expect(source.status()).toMatchObject([{ connected: true, lists: 2, watches: 2, error: undefined }])
})

test('DockerSource is not complete while the engine refuses, says why, and tries again', async () => {
  engine.put('a')
  engine.refuse = 500
  using source = follow()
  await vi.waitFor(() => expect(source.status()[0]?.failures).toBeGreaterThan(1), { timeout: 3000 })
  expect(source.current).toMatchObject({ synced: false })
  expect(source.status()[0]?.error).toBe('answered 500 to /containers/json: {"message":"no"}')
  engine.refuse = undefined
  await vi.waitFor(() => expect(readyPods(source)).toEqual(['a']), { timeout: 3000 })
})
