import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseConfig, parseKubeProxyConfig } from './config.ts'
import { kubeProxyApi } from './kube-proxy-keys.ts'
import { inClusterKubernetes } from './kubernetes-config.ts'

const kubernetes = (raw: object) =>
  parseConfig({ sources: { kubernetes: raw } }, { origin: 'fairlead.yaml', relativeTo: '/etc/fairlead' }).sources
    .kubernetes

describe('sources.kubernetes', () => {
  test.each([
    [{}, undefined],
    [{ inCluster: true }, { location: { kind: 'in-cluster' }, view: 'all' }],
    [{ kubeconfig: 'kube.conf' }, { location: { kind: 'kubeconfig', path: '/etc/fairlead/kube.conf' }, view: 'all' }],
    [
      { kubeconfig: '/kube.conf', context: 'x' },
      { location: { kind: 'kubeconfig', path: '/kube.conf', context: 'x' }, view: 'all' },
    ],
  ])('of %j is %j', (raw, expected) => {
    expect(kubernetes(raw)).toEqual(expected)
  })

  test.each([
    [{ kubeconfig: 'x', inCluster: true }, 'sources.kubernetes.inCluster: is true beside a kubeconfig'],
    [{ context: 'x' }, 'sources.kubernetes.context: is of no use without a kubeconfig'],
    [{ kubeconfig: '' }, 'sources.kubernetes.kubeconfig: is empty'],
    [{ kubeConfig: 'x' }, 'sources.kubernetes.kubeConfig: unknown key (did you mean kubeconfig?)'],
  ])('refuses %j', (raw, message) => {
    expect(() => kubernetes(raw)).toThrow(message)
  })
})

test('clientConnection.kubeconfig of a KubeProxyConfiguration is followed as kube-proxy does', () => {
  const raw = {
    ...kubeProxyApi,
    clientConnection: { kubeconfig: 'kube.conf', contentType: 'application/json', qps: 50 },
  }
  const { sources, kubeProxy } = parseKubeProxyConfig(raw, { origin: 'test' })
  expect(sources.kubernetes).toEqual({ location: { kind: 'kubeconfig', path: resolve('kube.conf') }, view: 'proxy' })
  expect(kubeProxy?.notes).toEqual([
    'clientConnection.contentType has no effect: JSON is asked for',
    'clientConnection.qps has no effect: there is one list and one watch per kind',
  ])
})

test.each([
  [{}, undefined],
  [{ KUBERNETES_SERVICE_HOST: '10.96.0.1' }, undefined],
  [
    { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' },
    { location: { kind: 'in-cluster' }, view: 'proxy' },
  ],
])('inClusterKubernetes() of %j is %j', (env, expected) => {
  expect(inClusterKubernetes(env)).toEqual(expected)
})
