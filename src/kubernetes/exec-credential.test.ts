import { describe, expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { AccessError } from './api-error.ts'
import { ExecCredentialSource, parseExecCredential } from './exec-credential.ts'
import type { ClusterConfig, ExecPlugin } from './kubeconfig.ts'

const apiVersion = 'client.authentication.k8s.io/v1'
const cluster: ClusterConfig = { server: new URL('https://10.0.0.1'), insecureSkipTlsVerify: false, user: {} }

function plugin(script: string, extra: Partial<ExecPlugin> = {}): ExecPlugin {
  const base = { apiVersion, command: 'sh', args: ['-c', script], env: {}, provideClusterInfo: false }
  return { ...base, installHint: undefined, ...extra }
}

const print = (status: string): string =>
  `printf '{"kind":"ExecCredential","apiVersion":"${apiVersion}","status":${status}}'`

describe('ExecCredentialSource', () => {
  test('runs the plugin with its environment, and says what cluster it is for', async () => {
    const script = `echo "$KUBERNETES_EXEC_INFO" | grep -q '"server":"https://10.0.0.1/"' && ${print('{"token":"\'$TOKEN\'"}')}`
    const options = { env: { PATH: '/bin:/usr/bin' }, clock: new FakeClock() }
    const source = new ExecCredentialSource(plugin(script, { provideClusterInfo: true, env: { TOKEN: 't1' } }), options)
    expect((await source.read(cluster)).token).toBe('t1')
  })

  test('runs it again when the credential is used up or refused, and not before', async () => {
    const clock = new FakeClock()
    const expires = '1970-01-01T00:01:00Z'
    const script = print(`{"token":"'$$'","expirationTimestamp":"${expires}"}`)
    const source = new ExecCredentialSource(plugin(script), { env: { PATH: '/bin:/usr/bin' }, clock })
    const first = await source.read(cluster)
    expect(await source.read(cluster)).toBe(first)
    source.forget()
    const second = await source.read(cluster)
    expect(second.token).not.toBe(first.token)
    await clock.advance(56_000)
    expect((await source.read(cluster)).token).not.toBe(second.token)
  })

  test.each([
    ['exit 3', 'the credential plugin sh failed with 3: '],
    ['echo no luck >&2; exit 1', 'failed with 1: no luck'],
    ['echo nonsense', 'printed no JSON'],
  ])('throws AccessError for %s', async (script, message) => {
    const source = new ExecCredentialSource(plugin(script), { env: { PATH: '/bin' }, clock: new FakeClock() })
    await expect(source.read(cluster)).rejects.toThrow(message)
    await expect(source.read(cluster)).rejects.toThrow(AccessError)
  })

  test('shows the hint of a plugin that is not there', async () => {
    const missing = plugin('', { command: 'no-such-login', installHint: 'get it from example.org' })
    const source = new ExecCredentialSource(missing, { env: { PATH: '/bin' }, clock: new FakeClock() })
    await expect(source.read(cluster)).rejects.toThrow('no such program (get it from example.org)')
  })
})

test.each([
  ['{"kind":"ExecCredential","apiVersion":"x","status":{}}', `printed no ExecCredential of ${apiVersion}`],
  [`{"kind":"ExecCredential","apiVersion":"${apiVersion}"}`, 'printed neither a token nor a certificate'],
  [
    `{"kind":"ExecCredential","apiVersion":"${apiVersion}","status":{"clientCertificateData":"x"}}`,
    'printed a certificate without its key',
  ],
  [
    `{"kind":"ExecCredential","apiVersion":"${apiVersion}","status":{"token":"hunter2","expirationTimestamp":"soon"}}`,
    'printed an expirationTimestamp that is no time',
  ],
])('parseExecCredential refuses %s', (text, message) => {
  expect(() => parseExecCredential(text, { command: 'login', apiVersion })).toThrow(message)
  expect(() => parseExecCredential(text, { command: 'login', apiVersion })).not.toThrow('hunter2')
})
