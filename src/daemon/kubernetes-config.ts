import { resolve } from 'node:path'
import type { ClusterLocation } from '../kubernetes/cluster-access.ts'
import { ManifestReader } from '../model/manifest-reader.ts'
import type { ClusterView } from '../sources/kubernetes-resources.ts'

/** `sources.kubernetes` of the configuration: which API server is followed, and what of it. */
export interface KubernetesConfig {
  readonly location: ClusterLocation
  readonly view: ClusterView
}

/** Reads `sources.kubernetes`; undefined when it names no server. Problems go to the reader. */
export function readKubernetes(
  reader: ManifestReader,
  absolute: (text: string) => string,
): KubernetesConfig | undefined {
  const path = reader.parsedText('kubeconfig', absolute)
  const context = reader.text('context')
  const inCluster = reader.boolean('inCluster') ?? false
  if (inCluster && path !== undefined) reader.fail('inCluster', 'is true beside a kubeconfig (expected one of them)')
  if (context !== undefined && path === undefined) reader.fail('context', 'is of no use without a kubeconfig')
  if (inCluster) return { location: { kind: 'in-cluster' }, view: 'all' }
  if (path === undefined) return undefined
  return { location: { kind: 'kubeconfig', path, ...(context !== undefined && { context }) }, view: 'all' }
}

/** The server of a KubeProxyConfiguration; undefined when it names none. Relative to the working folder, as in kube-proxy. */
export function kubeProxyKubernetes(raw: unknown): KubernetesConfig | undefined {
  const path = ManifestReader.of(raw).object('clientConnection').text('kubeconfig') ?? ''
  return path === '' ? undefined : { location: { kind: 'kubeconfig', path: resolve(path) }, view: 'proxy' }
}

/** What a kube-proxy without a kubeconfig follows: the cluster that it is a pod of. Undefined: it is none. */
export function inClusterKubernetes(env: Readonly<Record<string, string | undefined>>): KubernetesConfig | undefined {
  const { KUBERNETES_SERVICE_HOST: host = '', KUBERNETES_SERVICE_PORT: port = '' } = env
  return host === '' || port === '' ? undefined : { location: { kind: 'in-cluster' }, view: 'proxy' }
}
