import { describe, expect, test } from 'vitest'
import { AccessError } from './api-error.ts'
import { parseKubeconfig } from './kubeconfig.ts'

const base = `
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}, {name: there, context: {cluster: d, user: ''}}]
clusters:
  - {name: c, cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: Q0E=, tls-server-name: kube}}
  - {name: d, cluster: {server: 'http://127.0.0.1:8080'}}
`
const parse = (users: string, context?: string) =>
  parseKubeconfig(base + users, { path: '/etc/kube/config', ...(context !== undefined && { context }) })

describe('parseKubeconfig', () => {
  test('picks the current context, and resolves files from its own folder', () => {
    const users = 'users: [{name: u, user: {client-certificate: pki/a.crt, client-key: /pki/a.key, tokenFile: token}}]'
    expect(parse(users)).toEqual({
      server: new URL('https://10.0.0.1:6443'),
      certificateAuthority: { kind: 'inline', bytes: Buffer.from('CA') },
      insecureSkipTlsVerify: false,
      tlsServerName: 'kube',
      user: {
        tokenFile: '/etc/kube/token',
        clientCertificate: { kind: 'file', path: '/etc/kube/pki/a.crt' },
        clientKey: { kind: 'file', path: '/pki/a.key' },
      },
    })
  })

  test('takes another context when asked', () => {
    expect(parse('', 'there').server.href).toBe('http://127.0.0.1:8080/')
  })

  test('reads an exec plugin, whose path is relative to the file', () => {
    const exec =
      'exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login, args: [a], env: [{name: K, value: v}]}'
    expect(parse(`users: [{name: u, user: {${exec}}}]`).user.exec).toEqual({
      apiVersion: 'client.authentication.k8s.io/v1',
      command: '/etc/kube/login',
      args: ['a'],
      env: { K: 'v' },
      provideClusterInfo: false,
      installHint: undefined,
    })
  })

  test('gives no credential to a server without TLS', () => {
    const text = `
contexts: [{name: x, context: {cluster: d, user: u}}]
current-context: x
clusters: [{name: d, cluster: {server: 'http://127.0.0.1:8080'}}]
users: [{name: u, user: {token: secret}}]`
    expect(parseKubeconfig(text, { path: '/x' }).user).toEqual({})
  })

  test.each([
    ['', '/etc/kube/config: context "here": there is no user "u"'],
    ['users: [{name: u, user: {token: 7}}]', 'users[0].user.token: 7 is not a string'],
    [
      'users: [{name: u, user: {client-certificate: a}}]',
      'users[0].user.client-key: is missing beside the certificate',
    ],
    ['users: [{name: u, user: {auth-provider: {name: gcp}}}]', 'auth-provider: is gone from Kubernetes since 1.26'],
    ['users: [{name: u, user: {exec: {command: x}}}]', 'exec.apiVersion: is missing'],
    [
      'users: [{name: u, user: {exec: {command: x, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Always}}}]',
      'interactiveMode: is Always, and a daemon has no terminal',
    ],
  ])('refuses %s with the place', (users, message) => {
    expect(() => parse(users)).toThrow(message)
  })

  test.each([
    ['{', 'is not YAML'],
    ['[]', 'has no contexts'],
    ['current-context: x', 'there is no context "x"'],
    [' ', '/x is empty'],
    [
      "{current-context: x, contexts: [{name: x, context: {cluster: c}}], clusters: [{name: c, cluster: {server: 'ftp://x'}}]}",
      'clusters[0].cluster.server: "ftp://x" is not a URL',
    ],
    [
      "{current-context: x, contexts: [{name: x, context: {cluster: c}}], clusters: [{name: c, cluster: {server: 'https://x', proxy-url: 'http://p'}}]}",
      'proxy-url: is not supported',
    ],
  ])('refuses the file %s', (text, message) => {
    expect(() => parseKubeconfig(text, { path: '/x' })).toThrow(AccessError)
    expect(() => parseKubeconfig(text, { path: '/x' })).toThrow(message)
  })

  test('shows no secret of a file that is not YAML', () => {
    const secret = 'users: [{name: u, user: {token: hunter2'
    expect(() => parseKubeconfig(secret, { path: '/x' })).toThrow(/^(?!.*hunter2).*line \d+/)
  })
})
