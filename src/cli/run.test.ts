import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Config } from '../daemon/config.ts'
import { readConfig, type RunOptions } from './run.ts'
import { UsageError } from './usage-error.ts'

let folder: string
let config: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairlead-run-'))
  config = join(folder, 'fairlead.yaml')
  writeFileSync(
    config,
    `nodeName: of-the-file
stateDir: state
controlSocket: control.sock
sources: {files: [manifests]}
log: {level: warn, format: json}
`,
  )
})
afterEach(() => rmSync(folder, { recursive: true }))

const flags: [string, RunOptions, (config: Config) => unknown, unknown][] = [
  ['--node-name', { nodeName: 'of-the-flag' }, (c) => c.nodeName, 'of-the-flag'],
  ['--state-dir', { stateDir: '/state' }, (c) => c.stateDir, '/state'],
  ['--socket', { socket: '/control' }, (c) => c.controlSocket, '/control'],
  ['--files', { files: ['/a', '/b'] }, (c) => c.sources.files, ['/a', '/b']],
  [
    '--kubeconfig',
    { kubeconfig: '/kube.conf' },
    (c) => c.sources.kubernetes?.location,
    { kind: 'kubeconfig', path: '/kube.conf' },
  ],
  ['--log-level', { logLevel: 'debug' }, (c) => c.log.level, 'debug'],
  ['--log-format', { logFormat: 'text' }, (c) => c.log.format, 'text'],
  ['--cleanup-on-exit', { cleanupOnExit: true }, (c) => c.cleanupOnExit, true],
]

test.each(flags)('readConfig() lets %s override the file, and nothing else', (_, options, read, expected) => {
  const without = readConfig({ config })
  const given = readConfig({ config, ...options })
  expect(read(without)).not.toEqual(expected)
  expect(read(given)).toEqual(expected)
  for (const [, , other] of flags) if (other !== read) expect(other(given)).toEqual(other(without))
})

test.each([
  ['a level that is none', { logLevel: 'loud' }, /--log-level loud: expected debug, info, warn, error/],
  ['a file that is not there', { config: '/nonexistent.yaml' }, /cannot read \/nonexistent\.yaml: ENOENT/],
])('readConfig() refuses %s as a wrong call', (_, options, message) => {
  const call = (): Config => readConfig({ config, ...options })
  expect(call).toThrow(UsageError)
  expect(call).toThrow(message)
})

const kubeProxy = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n'
const withServer = `${kubeProxy}clientConnection: {kubeconfig: /kube.conf}\n`

test.each<[string, string, RunOptions, Config['sources']]>([
  [
    'its kubeconfig',
    withServer,
    {},
    { files: [], kubernetes: { location: { kind: 'kubeconfig', path: '/kube.conf' }, view: 'proxy' } },
  ],
  ['--manifests in its place', withServer, { manifests: ['/objects'] }, { files: ['/objects'], kubernetes: undefined }],
  [
    '--kubeconfig over it',
    withServer,
    { kubeconfig: '/other.conf' },
    { files: [], kubernetes: { location: { kind: 'kubeconfig', path: '/other.conf' }, view: 'proxy' } },
  ],
])('readConfig() takes the objects of a KubeProxyConfiguration from %s', (_, text, options, expected) => {
  writeFileSync(config, text)
  expect(readConfig({ config, ...options }).sources).toEqual(expected)
})

test('readConfig() has no API of its own beside that of --kubeconfig', () => {
  expect(readConfig({ config }).api?.byDefault).toBe(true)
  expect(readConfig({ config, kubeconfig: '/kube.conf' }).api).toBeUndefined()
})

test('readConfig() says that --manifests takes the place of a kubeconfig', () => {
  writeFileSync(config, withServer)
  const { kubeProxy } = readConfig({ config, manifests: ['/objects'] })
  expect(kubeProxy?.notes.join()).toContain('clientConnection.kubeconfig has no effect')
})

test('readConfig() refuses a KubeProxyConfiguration without any objects, outside of a cluster', () => {
  writeFileSync(config, kubeProxy)
  expect(() => readConfig({ config })).toThrow(
    /clientConnection.kubeconfig is missing, and this is no pod of a cluster/,
  )
})
