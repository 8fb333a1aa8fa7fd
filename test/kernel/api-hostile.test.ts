import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { request as httpsRequest } from 'node:https'
import { createConnection, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { patience } from '../lab/patience.ts'

interface State {
  readonly rss: number
  readonly connections: number
  readonly watchers: number
  readonly dropped: number
}

const folder = mkdtempSync(join(tmpdir(), 'api-hostile-'))
let server: ChildProcess
let [tlsPort, port] = [0, 0]
let tokens = { admin: '', 'read-only': '' }

beforeAll(async () => {
  server = fork(join(import.meta.dirname, 'api-hostile-server.ts'), [folder], { execArgv: ['--expose-gc'] })
  const [ready] = (await once(server, 'message')) as [{ ports: [number, number]; tokens: typeof tokens }]
  ;[tlsPort, port] = ready.ports
  tokens = ready.tokens
})
afterAll(() => {
  server.kill('SIGKILL')
  rmSync(folder, { recursive: true })
})

async function ask<T>(question: 'state' | 'close'): Promise<T> {
  const answer = once(server, 'message')
  server.send(question)
  return ((await answer) as [T])[0]
}

/** Sends bytes as they are, which no client library would, and returns what comes until the server closes or `ms` have passed. */
async function raw(bytes: string | Buffer, ms = 5000): Promise<string> {
  const socket = createConnection(port, '127.0.0.1')
  let text = ''
  socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk))
  socket.on('error', (error: NodeJS.ErrnoException) => (text += ` ${error.code}`))
  socket.write(bytes)
  await Promise.race([once(socket, 'close'), sleep(ms)])
  socket.destroy()
  return text
}

const admin = (): string => `authorization: Bearer ${tokens.admin}\r\n`

function head(line: string, headers = admin()): string {
  return `${line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n${headers}\r\n`
}

function post(body: string | Buffer, headers = ''): Buffer {
  const bytes = Buffer.from(body)
  const type = headers.includes('content-type') ? '' : 'content-type: application/json\r\n'
  const start = `POST /api/v1/namespaces/default/services HTTP/1.1\r\nhost: a\r\nconnection: close\r\n${admin()}${type}${headers}`
  return Buffer.concat([Buffer.from(`${start}content-length: ${bytes.length}\r\n\r\n`), bytes])
}

const service = (name: string, note = ''): string =>
  JSON.stringify({ metadata: { name, annotations: { note } }, spec: { ports: [{ port: 80 }] } })

/** It answers, over TLS, as a client expects it. */
async function expectAlive(): Promise<void> {
  const status = await new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${tokens.admin}` }
    const from = {
      host: '127.0.0.1',
      port: tlsPort,
      path: '/api/v1/services',
      headers,
      agent: false,
      rejectUnauthorized: false,
    }
    httpsRequest(from, (response) => resolve(response.resume().statusCode))
      .on('error', reject)
      .end()
  })
  expect(status).toBe(200)
}

const long = (part: string, length: number): string => encodeURIComponent(part.repeat(Math.ceil(length / part.length)))
const get = (path: string, headers?: string) => () => head(`GET ${path}`, headers)
const list = '/api/v1/services'

test.each<[what: string, bytes: () => string | Buffer, status: number]>([
  ['no token', get(list, ''), 401],
  ['a wrong token', get(list, 'authorization: Bearer x\r\n'), 401],
  ['a token that begins as the right one', () => head(`GET ${list}`, admin().slice(0, -8) + '\r\n'), 401],
  ['two tokens in one header', () => head(`GET ${list}`, admin().replace('\r\n', `, Bearer ${tokens.admin}\r\n`)), 401],
  ['basic authentication', get(list, 'authorization: Basic YTpi\r\n'), 401],
  ['a token in the query', () => head(`GET ${list}?access_token=${tokens.admin}`, ''), 401],
  [
    'a read-only token that deletes',
    () => head(`DELETE ${list}`, `authorization: Bearer ${tokens['read-only']}\r\n`),
    403,
  ],
  ['the admin', get(list), 200],
  ['a path upwards', get('/api/v1/namespaces/default/services/../../../../../etc/passwd'), 404],
  ['an encoded path upwards', get('/api/v1/namespaces/default/services/%2e%2e'), 404],
  ['an encoded path upwards, twice encoded', get('/api/v1/namespaces/default/services/%252e%252e'), 404],
  ['an encoded slash', get('/api/v1/namespaces/default%2fservices'), 404],
  ['empty steps', get('//api/v1/services'), 404],
  ['empty steps inside', get('/api/v1//services'), 404],
  ['an encoded NUL', get('/api/v1/namespaces/default/services/web%00'), 404],
  ['a NUL', get('/api/v1/namespaces/default/services/web\0'), 400],
  ['bytes that are no UTF-8', get('/api/v1/namespaces/%ff%fe/services'), 404],
  ['a name of a prototype', get('/api/v1/namespaces/__proto__/services/constructor'), 404],
  ['a kind of a prototype', get('/api/v1/constructor'), 404],
  ['the address of somebody else', get('http://198.51.100.1/api/v1/services'), 404],
  ['a verb that HTTP does not have', () => head(`BREW ${list}`), 400],
  ['a verb that the API does not have', () => head(`PROPFIND ${list}`), 405],
  ['a verb that the path does not have', () => head(`POST ${list}`), 405],
  ['OPTIONS *', () => head('OPTIONS *'), 404],
  ['CONNECT', () => head('CONNECT a:443'), 0],
  ['no HTTP', () => '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400],
  ['a header of 20 KiB', () => head(`GET ${list}`, `${admin()}x: ${'a'.repeat(20_000)}\r\n`), 431],
  ['a label selector of 14 KiB', () => head(`GET ${list}?labelSelector=${long('a=b,', 14_000 / 1.75)}`), 200],
  ['a label selector of 20 KiB', () => head(`GET ${list}?labelSelector=${long('a=b,', 20_000)}`), 431],
  ['commas and parentheses', () => head(`GET ${list}?labelSelector=${'(,'.repeat(6000)}`), 400],
  ['a set without an end', get(`${list}?labelSelector=a+in+(b`), 400],
  ['a field that is not there', get(`${list}?fieldSelector=spec.nothing%3Da`), 400],
  ['a field of a prototype', get(`${list}?fieldSelector=__proto__.a%3Da`), 400],
  ['a resourceVersion that is no number', get(`${list}?resourceVersion=abc`), 400],
  ['a resourceVersion below zero', get(`${list}?watch=1&resourceVersion=-1`), 400],
  ['a limit that is no number', get(`${list}?limit=1e3`), 400],
  ['a timeout that is no number', get(`${list}?watch=1&timeoutSeconds=soon`), 400],
  ['a continue token that is none', get(`${list}?limit=1&continue=e30`), 400],
  ['a continue token of another day', get(`${list}?limit=1&continue=00000000-0000-4000-8000-000000000000`), 410],
  ['a body that is too large', () => post(Buffer.alloc((3 << 20) + 1, 0x20)), 413],
  [
    'a body that says it is too large',
    () => head('POST /api/v1/namespaces/default/services', `${admin()}content-length: 99999999999\r\n`),
    413,
  ],
  ['JSON that is too deep', () => post('[{"a":'.repeat(50_000)), 400],
  ['JSON that is too deep, as YAML', () => post('- '.repeat(5000), 'content-type: application/yaml\r\n'), 400],
  ['a body that is no UTF-8', () => post(Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d])), 400],
  ['half a body of JSON', () => post('{"metadata":{"name":"a"'), 400],
  ['a list instead of an object', () => post('[]'), 400],
  [
    'keys of prototypes',
    () => post('{"__proto__":{"a":1},"metadata":{"name":"p"},"spec":{"ports":[{"port":80}]}}'),
    201,
  ],
  ['a body that is packed', () => post('{}', 'content-encoding: gzip\r\n'), 415],
  ['a media type that is unknown', () => post('{}', 'content-type: text/plain\r\n'), 415],
  ['a length that contradicts itself', () => post('{}', 'transfer-encoding: chunked\r\n'), 400],
])('ApiServer answers %s with the right status and lives', async (_what, bytes, status) => {
  const answer = await raw(bytes())
  expect(Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0)).toBe(status)
  if (status >= 401 && status !== 431) expect(answer).toContain(`"code":${status}`)
  await expectAlive()
})

test('ApiServer ends requests that come byte by byte (slowloris)', { timeout: patience(30_000) }, async () => {
  const began = performance.now()
  const open = Array.from({ length: 200 }, (_, index) => {
    const socket = createConnection(port, '127.0.0.1')
    socket.on('error', () => {})
    const text = index % 2 === 0 ? head(`GET ${list}`) : String(post('{"metadata":'))
    let at = text.length - 8
    socket.write(text.slice(0, at))
    const drip = setInterval(() => socket.write(text.charAt(at++) || ' '), 400)
    socket.on('close', () => clearInterval(drip))
    return once(socket.resume(), 'close')
  })
  await expectAlive()
  await Promise.all(open)
  console.log(`200 slow requests were ended after ${((performance.now() - began) / 1000).toFixed(1)} s`)
  expect((await ask<State>('state')).connections).toBe(0)
})

test('ApiServer serves others beside 10,000 idle connections', { timeout: patience(60_000) }, async () => {
  const before = await ask<State>('state')
  const sockets: Socket[] = []
  try {
    for (let i = 0; i < 10_000; i += 250) {
      const some = Array.from({ length: 250 }, () => createConnection(i % 500 === 0 ? port : tlsPort, '127.0.0.1'))
      for (const socket of some) socket.on('error', () => {}).resume()
      sockets.push(...some)
      await Promise.all(some.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')])))
      if (i % 2500 === 0) await expectAlive()
    }
    await expectAlive()
    const after = await ask<State>('state')
    console.log(
      `10,000 idle connections: ${after.connections} kept by one listener, ` +
        `memory ${(before.rss / 1e6).toFixed(0)} -> ${(after.rss / 1e6).toFixed(0)} MB`,
    )
    expect(after.connections).toBeLessThanOrEqual(1000)
    expect(after.rss - before.rss).toBeLessThan(120e6)
  } finally {
    for (const socket of sockets) socket.destroy()
  }
  await expectAlive()
})

test('WatchHub drops watchers that do not read, and their memory', { timeout: patience(60_000) }, async () => {
  await raw(post(service('big')))
  const before = await ask<State>('state')
  const sockets = Array.from({ length: 50 }, () => {
    const socket = createConnection(port, '127.0.0.1')
    socket.on('error', () => {}).pause()
    socket.write(head(`GET ${list}?watch=1`))
    return socket
  })
  try {
    await expect.poll(async () => (await ask<State>('state')).watchers, { timeout: patience(10_000) }).toBe(50)
    const path = '/api/v1/namespaces/default/services/big'
    for (let i = 0; i < 200; i++) {
      const body = JSON.stringify({ metadata: { annotations: { note: `${i} ${'x'.repeat(200_000)}` } } })
      const type = 'content-type: application/merge-patch+json\r\n'
      const answer = await raw(head(`PATCH ${path}`, `${admin()}${type}content-length: ${body.length}\r\n`) + body)
      expect(answer.slice(0, 12)).toBe('HTTP/1.1 200')
    }
    const after = await ask<State>('state')
    console.log(
      `50 watchers that read nothing of 40 MB each: ${after.dropped} dropped, ` +
        `memory ${(before.rss / 1e6).toFixed(0)} -> ${(after.rss / 1e6).toFixed(0)} MB`,
    )
    expect(after).toMatchObject({ dropped: 50, watchers: 0 })
    expect(after.rss - before.rss).toBeLessThan(120e6)
  } finally {
    for (const socket of sockets) socket.destroy()
  }
  await expectAlive()
})

test('ApiServer closes at once, whatever its connections are in the middle of', async () => {
  const sockets = Array.from({ length: 20 }, () => createConnection(tlsPort, '127.0.0.1').on('error', () => {}))
  const closed = sockets.map((socket) => once(socket.resume(), 'close'))
  // Within the TLS handshake: the first bytes of a ClientHello.
  for (const socket of sockets) socket.write(Buffer.from('1603010200010001fc0303', 'hex'))
  await sleep(100)
  const { closedMs } = await ask<{ closedMs: number }>('close')
  expect(closedMs).toBeLessThan(1000)
  await Promise.all(closed)
})
