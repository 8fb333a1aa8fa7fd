import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { run } from '../linux/exec.ts'
import { ApiClient } from './api-client.ts'
import { AccessError, ApiError } from './api-error.ts'
import { ClusterAccess, inClusterConfig } from './cluster-access.ts'
import { FakeApiServer, sendStatus } from './fake-api-server.ts'

const path = '/api/v1/things'
let folder: string
let server: FakeApiServer
const subjects: (string | undefined)[] = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'api-client-'))
  await certificate('ca', ['-subj', '/CN=test-ca', '-addext', 'basicConstraints=critical,CA:TRUE'])
  const signed = ['-CA', join(folder, 'ca.crt'), '-CAkey', join(folder, 'ca.key')]
  await certificate('server', ['-subj', '/CN=kube', '-addext', 'subjectAltName=DNS:kube,IP:127.0.0.1', ...signed])
  for (const name of ['node-1', 'node-2']) await certificate(name, ['-subj', `/CN=${name}`, ...signed])
  const tls = { key: read('server.key'), cert: read('server.crt'), ca: read('ca.crt'), requestCert: true }
  const https = createServer({ ...tls, rejectUnauthorized: false })
  https.on('request', (request: IncomingMessage) => {
    const subject = (request.socket as TLSSocket).getPeerCertificate().subject?.CN
    subjects.push(Array.isArray(subject) ? subject[0] : subject)
  })
  server = await FakeApiServer.start(https)
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

async function certificate(name: string, more: readonly string[]): Promise<void> {
  const files = ['-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.crt`)]
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  const made = await run(['openssl', 'req', '-x509', ...key, ...files, ...more])
  if (made.code !== 0) throw new Error(made.stderr)
}

function read(name: string): Buffer {
  return readFileSync(join(folder, name))
}

function kubeconfig(user: object, cluster: object = {}): string {
  const file = join(folder, 'kubeconfig')
  const config = {
    'current-context': 'x',
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    clusters: [
      { name: 'c', cluster: { server: `https://${server.address}`, 'certificate-authority': 'ca.crt', ...cluster } },
    ],
    users: [{ name: 'u', user }],
  }
  writeFileSync(file, JSON.stringify(config))
  return file
}

function clientOf(file: string): ApiClient {
  const env = { PATH: process.env['PATH'] }
  const access = new ClusterAccess({ kind: 'kubeconfig', path: file }, { env, clock: systemClock })
  return new ApiClient(access, { userAgent: 'fairlead/test' })
}

async function get(client: ApiClient): Promise<number | undefined> {
  const response = await client.get({ path, query: { limit: '1' }, signal: AbortSignal.timeout(5000) })
  response.resume()
  return response.statusCode
}

describe('ApiClient', () => {
  test('shows its client certificate, and a replaced one from the next request on', async () => {
    writeFileSync(join(folder, 'client.crt'), read('node-1.crt'))
    writeFileSync(join(folder, 'client.key'), read('node-1.key'))
    const client = clientOf(kubeconfig({ 'client-certificate': 'client.crt', 'client-key': 'client.key' }))
    expect(await get(client)).toBe(200)
    writeFileSync(join(folder, 'client.crt'), read('node-2.crt'))
    writeFileSync(join(folder, 'client.key'), read('node-2.key'))
    await get(client)
    expect(subjects.slice(-2)).toEqual(['node-1', 'node-2'])
    expect(server.headers.at(-1)?.['user-agent']).toBe('fairlead/test')
  })

  test('reads a token file anew for each request', async () => {
    const client = clientOf(kubeconfig({ tokenFile: 'token', token: 'unused' }))
    for (const token of ['t1', 't2']) {
      writeFileSync(join(folder, 'token'), `${token}\n`)
      await get(client)
      expect(server.headers.at(-1)?.authorization).toBe(`Bearer ${token}`)
    }
    writeFileSync(join(folder, 'token'), '')
    await expect(get(client)).rejects.toThrow(AccessError)
  })

  test('takes over another kubeconfig in its place', async () => {
    const client = clientOf(kubeconfig({ token: 'old' }))
    await get(client)
    kubeconfig({ username: 'jane', password: 'pw' })
    await get(client)
    expect(server.headers.at(-1)?.authorization).toBe(`Basic ${Buffer.from('jane:pw').toString('base64')}`)
  })

  test('runs a plugin again when the server refuses its credential, once', async () => {
    const plugin = join(folder, 'login')
    const version = 'client.authentication.k8s.io/v1'
    writeFileSync(
      plugin,
      `#!/bin/sh\necho x >> ${folder}/runs\n` +
        `printf '{"kind":"ExecCredential","apiVersion":"${version}","status":{"token":"t%s"}}' $(wc -l < ${folder}/runs)\n`,
    )
    chmodSync(plugin, 0o755)
    const client = clientOf(kubeconfig({ exec: { apiVersion: version, command: './login' } }))
    await get(client)
    await get(client)
    expect(server.headers.at(-1)?.authorization).toBe('Bearer t1')
    server.faults.push(
      (_, response) =>
        server.headers.at(-1)?.authorization === 'Bearer t1' &&
        sendStatus(response, 401, 'Unauthorized', 'Unauthorized'),
    )
    expect(await get(client)).toBe(200)
    expect(server.headers.at(-1)?.authorization).toBe('Bearer t2')
    server.faults[0] = (_, response) => sendStatus(response, 401, 'Unauthorized', 'Unauthorized')
    await expect(get(client)).rejects.toMatchObject({ status: 401 })
    expect(read('runs').toString()).toBe('x\nx\nx\n')
    server.faults.length = 0
  })

  test.each([
    ['an unknown CA', { 'certificate-authority': 'node-1.crt' }, /certificate|signature/],
    ['another name', { 'tls-server-name': 'other' }, /Hostname|altname/i],
  ])('trusts no server with %s', async (_, cluster, message) => {
    await expect(get(clientOf(kubeconfig({ token: 't' }, cluster)))).rejects.toThrow(message)
  })

  test.each([
    ['the name that is asked for', { 'tls-server-name': 'kube' }],
    ['no check at all', { 'insecure-skip-tls-verify': true, 'certificate-authority': undefined }],
  ])('trusts a server with %s', async (_, cluster) => {
    expect(await get(clientOf(kubeconfig({ token: 't' }, cluster)))).toBe(200)
  })

  test('takes the error of a proxy in between that speaks HTML, and follows no redirect', async () => {
    server.faults.push((_, response) => (response.writeHead(302, { location: 'https://example.org' }).end('<p>'), true))
    await expect(get(clientOf(kubeconfig({})))).rejects.toThrow(ApiError)
    server.faults.length = 0
  })
})

test('ApiError says what the server says in one short line', () => {
  const error = ApiError.fromStatus(
    { code: 403, message: `no\u001b[2J\n${'x'.repeat(1000)}` },
    { status: 500, text: '' },
  )
  expect(error.message).toMatch(/^the API server answers 403: no \[2J x+\.\.\.$/)
  expect(error.message.length).toBeLessThan(400)
})

test('inClusterConfig finds what a pod is given', () => {
  const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' }
  expect(inClusterConfig(env, '/sa')).toEqual({
    server: new URL('https://[fd00::1]'),
    certificateAuthority: { kind: 'file', path: '/sa/ca.crt' },
    insecureSkipTlsVerify: false,
    user: { tokenFile: '/sa/token' },
  })
  expect(() => inClusterConfig({}, '/sa')).toThrow('this is no pod of a cluster')
})
