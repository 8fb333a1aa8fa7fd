import { array, assert, asyncProperty, nat, tuple } from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { ApiClient } from './api-client.ts'
import type { ClusterAccess } from './cluster-access.ts'
import { FakeApiServer, sendStatus, type Fault } from './fake-api-server.ts'
import { keyOf, type KubeObject, type WatchEvent } from './kube-object.ts'
import type { ReflectorSink, ReflectorTimes } from './reflector-types.ts'
import { Reflector } from './reflector.ts'

const path = '/api/v1/things'

/** The plainest sink: versions by key. */
class Versions implements ReflectorSink {
  known = new Map<string, string>()
  pending = new Map<string, string>()
  lists = 0

  listItem(object: KubeObject): void {
    this.pending.set(keyOf(object), object.metadata.resourceVersion)
  }

  listed(): void {
    this.known = this.pending
    this.pending = new Map()
    this.lists++
  }

  listBroken(): void {
    this.pending = new Map()
  }

  changed(events: readonly WatchEvent[]): void {
    for (const event of events) {
      if (event.kind === 'put') this.known.set(keyOf(event.object), event.object.metadata.resourceVersion)
      if (event.kind === 'delete') this.known.delete(keyOf(event.object))
    }
  }

  versions(): Iterable<readonly [string, string]> {
    return this.known
  }

  get content(): string[] {
    return [...this.known].map(([key, version]) => `${key}@${version}`).toSorted()
  }
}

let server: FakeApiServer
let sink: Versions
let stop: AbortController
let running: Promise<void> | undefined

beforeEach(async () => {
  server = await FakeApiServer.start()
  sink = new Versions()
  stop = new AbortController()
  running = undefined
  for (const name of ['a', 'b', 'c']) put(name)
})

afterEach(async () => {
  stop.abort()
  await running
  await server[Symbol.asyncDispose]()
})

function put(name: string): void {
  server.put(path, { metadata: { name, namespace: 'shop' }, spec: { text: 'é'.repeat(50) } })
}

function follow(times: ReflectorTimes = {}, fieldSelector?: string, optional = false, log = silentLog): Reflector {
  const access = {
    read: async () => await Promise.resolve({ server: new URL(`http://${server.address}`), tls: {} }),
    refused: () => {},
  }
  const reflector = new Reflector({
    client: new ApiClient(access as unknown as ClusterAccess, { userAgent: 'test' }),
    resource: { name: 'things', path, optional, ...(fieldSelector !== undefined && { fieldSelector }) },
    sink,
    clock: systemClock,
    log,
    times: { backoff: { firstMs: 5, maxMs: 40 }, ...times },
    onStatus: () => {},
  })
  running = reflector.run(stop.signal)
  return reflector
}

async function equal(): Promise<void> {
  await vi.waitFor(() => expect(sink.content).toEqual(server.content(path)), { timeout: 3000, interval: 5 })
}

/** Waits for the list and an open watch. */
async function settled(): Promise<void> {
  await vi.waitFor(() => expect(server.watches.size).toBe(1), { timeout: 3000, interval: 5 })
  await equal()
}

/** A fault for the first `times` requests that fit. */
function once(fault: Fault, times = 1): void {
  let left = times
  server.faults.push((url, response) => left > 0 && fault(url, response) && left-- > 0)
}

const isWatch = (url: URL): boolean => url.searchParams.has('watch')

describe.each([true, false])('Reflector, watch-list offered: %s', (watchList) => {
  beforeEach(() => {
    server.watchList = watchList
  })

  test('lists, then follows what is added, changed and deleted', async () => {
    follow()
    await settled()
    put('d')
    put('a')
    server.delete(path, 'shop/b')
    await equal()
    expect(sink.lists).toBe(1)
    expect(server.requests.filter((url) => !isWatch(url))).toHaveLength(watchList ? 0 : 1)
  })

  test('goes on where it was when a connection drops in the middle of an object', async () => {
    follow()
    await settled()
    put('d')
    await equal()
    server.cut({ torn: true })
    put('e')
    server.delete(path, 'shop/a')
    await equal()
    expect(sink.lists).toBe(1)
    expect(server.requests.at(-1)?.searchParams.get('resourceVersion')).toBe('104')
  })

  test.each([
    ['410 as an answer', () => server.compact()],
    ['410 as an event', () => once((url, response) => isWatch(url) && expired(response))],
    ['what is no JSON', () => once((url, response) => isWatch(url) && (response.end('nonsense\n'), true))],
    [
      'an event without object',
      () => once((url, response) => isWatch(url) && (response.end('{"type":"ADDED"}\n'), true)),
    ],
    ['a resource version of the future', () => (server.version = 1)],
  ])('lists anew after %s, and keeps what it has meanwhile', async (_, spoil) => {
    follow()
    await settled()
    server.muted = true
    server.delete(path, 'shop/a')
    put('e')
    server.muted = false
    spoil()
    server.cut()
    expect(sink.known.size).toBe(3)
    await equal()
    expect(sink.lists).toBe(2)
  })

  test.each([429, 500, 503])('comes back after some answers of %i, with a growing wait', async (code) => {
    once((_, response) => sendStatus(response, code, 'Trouble', 'busy'), 3)
    const reflector = follow()
    await vi.waitFor(() => expect(reflector.status().failures).toBe(3))
    await settled()
    expect(reflector.status().error).toBeUndefined()
  })

  test('goes on where it was, whether a bookmark is old, given twice, or new', async () => {
    follow()
    await settled()
    put('d')
    server.bookmark(90)
    server.bookmark(150)
    server.bookmark(150)
    server.bookmark(120)
    server.version = 150
    await equal()
    server.cut()
    put('e')
    await equal()
    expect(server.requests.at(-1)?.searchParams.get('resourceVersion')).toBe('150')
    expect(sink.lists).toBe(1)
  })

  test('begins anew when a server stops speaking without a word', async () => {
    follow({ silenceMs: 60 })
    await settled()
    server.bookmark()
    server.muted = true
    put('d')
    server.muted = false
    await equal()
  })

  test('notices what a watch lost, by audit', async () => {
    const reflector = follow({ auditMs: 30, auditGraceMs: 10 })
    await settled()
    server.muted = true
    server.delete(path, 'shop/a')
    put('b')
    put('x')
    server.muted = false
    put('c')
    await equal()
    expect(reflector.status().auditFailures).toBe(1)
    expect(sink.lists).toBe(2)
  })

  test('takes a server that sends a few bytes at a time', async () => {
    once((url, response) => {
      if (isWatch(url)) return false
      const list = JSON.stringify({
        metadata: { resourceVersion: '103' },
        items: ['a', 'b', 'c'].map((name, index) => ({
          metadata: { name, namespace: 'shop', resourceVersion: String(101 + index) },
        })),
      })
      void (async () => {
        for (const byte of list) {
          response.write(byte)
          await new Promise((resolve) => setImmediate(resolve))
        }
        response.end()
      })()
      return true
    })
    follow()
    await settled()
  })
})

/** What can go wrong between two changes. */
const faults: readonly (() => void)[] = [
  () => server.cut(),
  () => server.cut({ torn: true }),
  () => (server.compact(), server.cut()),
  () => server.bookmark(),
  () => server.bookmark(server.version - 3),
  () => server.say('nonsense\n'),
  () => server.say('\n\r\n'),
  () => once((_, response) => (response.destroy(), true)),
  () => once((_, response) => sendStatus(response, 429, 'TooManyRequests', 'busy'), 2),
  () => once((url, response) => isWatch(url) && expired(response)),
  () => once((url, response) => !isWatch(url) && (response.write('{"items":[{'), response.destroy(), true)),
  () => (server.watchList = !server.watchList),
]

test('Reflector has what the server has after any row of faults and changes', async () => {
  const original = server
  const rows = array(tuple(nat(faults.length - 1), nat(6), nat(15)), { minLength: 5, maxLength: 25 })
  await assert(
    asyncProperty(rows, async (steps) => {
      await using own = await FakeApiServer.start()
      server = own
      sink = new Versions()
      stop = new AbortController()
      follow({ backoff: { firstMs: 1, maxMs: 4 } })
      try {
        for (const [fault, name, wait] of steps) {
          const known = server.content(path).some((entry) => entry.startsWith(`shop/${name}@`))
          if (known && wait % 2 === 0) server.delete(path, `shop/${name}`)
          else put(String(name))
          faults[fault]?.()
          if (wait > 7) await new Promise((resolve) => setTimeout(resolve, wait - 7))
        }
        server.faults.length = 0
        await equal()
      } finally {
        stop.abort()
        await running
        server = original
      }
    }),
    { numRuns: 25 },
  )
}, 60_000)

function expired(response: import('node:http').ServerResponse): true {
  const object = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old' }
  response.end(`${JSON.stringify({ type: 'ERROR', object })}\n`)
  return true
}

describe('Reflector', () => {
  test('does not wait for 410 as long as for the failures before it: a server that was away has begun anew', async () => {
    const waits: number[] = []
    const log = { ...silentLog, warn: (fields: object) => void waits.push((fields as { retryInMs: number }).retryInMs) }
    follow({ backoff: { firstMs: 8, maxMs: 60_000, random: () => 1 } }, undefined, false, log)
    await settled()
    once((_, response) => sendStatus(response, 503, 'ServiceUnavailable', 'not yet'), 5)
    server.muted = true
    put('e')
    server.muted = false
    server.compact()
    server.cut()
    await equal()
    // The connection that was cut, the first of five refusals, and 410.
    expect(waits).toEqual([8, 16, 8])
    expect(sink.lists).toBe(2)
  })

  test('asks page by page for the newest list after 410', async () => {
    server.watchList = false
    follow()
    await settled()
    for (let i = 0; i < 1200; i++) put(`more-${i}`)
    server.compact()
    server.cut()
    await equal()
    await vi.waitFor(() => expect(sink.lists).toBe(2))
    const pages = server.requests.filter((url) => url.searchParams.get('limit') === '500')
    expect(pages.map((url) => url.searchParams.get('continue'))).toEqual([null, '500', '1000'])
  })

  test('lets nothing of a list count that broke off', async () => {
    server.watchList = false
    once((url, response) => {
      if (isWatch(url)) return false
      response.write(
        '{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"ghost","resourceVersion":"9"}},',
      )
      setImmediate(() => response.destroy())
      return true
    })
    follow()
    await settled()
    expect(sink.lists).toBe(1)
    expect(sink.known.has('ghost')).toBe(false)
  })

  test('falls back to lists where the events of a watch-list never end', async () => {
    once((url, response) => isWatch(url) && (response.writeHead(200).write('\n'), true))
    follow({ silenceMs: 60 })
    await settled()
    expect(server.requests.some((url) => !isWatch(url))).toBe(true)
  })

  test('leaves a field selector away that the server does not know', async () => {
    server.faults.push(
      (url, response) =>
        url.searchParams.has('fieldSelector') &&
        sendStatus(response, 400, 'BadRequest', 'field label not supported: spec.clusterIP'),
    )
    follow({}, 'spec.clusterIP!=None')
    await settled()
  })

  test('counts an optional resource that the server does not have as empty, and asks again', async () => {
    once((_, response) => sendStatus(response, 404, 'NotFound', 'the server could not find the requested resource'), 1)
    const reflector = follow({ optionalMs: 200 }, undefined, true)
    await vi.waitFor(() => expect(reflector.status().synced).toBe(true))
    expect(sink.known.size).toBe(0)
    await settled()
  })

  test('says what is missing when it may not read a resource that it needs', async () => {
    server.faults.push((_, response) => sendStatus(response, 403, 'Forbidden', 'things is forbidden'))
    const reflector = follow()
    await vi.waitFor(() => expect(reflector.status().error).toBe('the API server answers 403: things is forbidden'))
    expect(reflector.status().synced).toBe(false)
  })

  test('waits as long as Retry-After says', async () => {
    once((_, response) => {
      response.writeHead(429, { 'retry-after': '1' }).end()
      return true
    })
    const began = performance.now()
    follow()
    await settled()
    expect(performance.now() - began).toBeGreaterThan(990)
  })
})
