import type { FlowCase } from './flow-case.ts'

/** The proxy modes that a case can be run in. */
export const modes = ['userspace', 'iptables', 'ipvs', 'nftables', 'ebpf'] as const

export type Mode = (typeof modes)[number]

/** Fields of KubeProxyConfiguration that stand in a section per mode; in a case they mean the mode under test. */
const modeFields = ['masqueradeAll', 'masqueradeBit', 'localhostNodePorts', 'syncPeriod', 'minSyncPeriod'] as const

/** What `config` of a case may have: the fields of KubeProxyConfiguration v1alpha1, and {@link modeFields}. */
export const configFields = [
  ...modeFields,
  'bindAddress',
  'bindAddressHardFail',
  'clientConnection',
  'clusterCIDR',
  'configSyncPeriod',
  'conntrack',
  'detectLocal',
  'detectLocalMode',
  'enableProfiling',
  'featureGates',
  'healthzBindAddress',
  'hostnameOverride',
  'iptables',
  'ipvs',
  'logging',
  'metricsBindAddress',
  'nftables',
  'nodePortAddresses',
  'oomScoreAdj',
  'portRange',
  'showHiddenMetricsForVersion',
] as const

const defaultClusterCIDR = '10.0.0.0/8,fd00:10::/64'

/**
 * The KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) of a case. `detectLocalMode: none` is a word of cases only: in
 * Kubernetes, local detection is off where the mode is ClusterCIDR and there is no clusterCIDR.
 */
export function kubeProxyConfiguration(flowCase: FlowCase, mode: Mode): Readonly<Record<string, unknown>> {
  const { detectLocalMode, clusterCIDR = defaultClusterCIDR, ...rest } = flowCase.config
  const ofMode = Object.fromEntries(modeFields.filter((key) => key in rest).map((key) => [key, rest[key]]))
  const others = Object.fromEntries(Object.entries(rest).filter(([key]) => !(key in ofMode)))
  const section = sectionOf(mode)
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode,
    hostnameOverride: flowCase.node.name,
    // A network namespace other than the first cannot set these: nothing of the machine is to be changed.
    conntrack: { maxPerCore: 0, min: 0 },
    ...others,
    ...(detectLocalMode === 'none' ? {} : { clusterCIDR, ...(detectLocalMode !== undefined && { detectLocalMode }) }),
    ...(Object.keys(ofMode).length > 0 && { [section]: { ...(others[section] as object | undefined), ...ofMode } }),
  }
}

/** Modes older than nftables share the fields of the iptables section, as in Kubernetes. */
function sectionOf(mode: Mode): 'iptables' | 'nftables' {
  return mode === 'nftables' || mode === 'ebpf' ? 'nftables' : 'iptables'
}

/** The bridge, or the beginning of links' names, by which the proxy knows local pods; undefined where it does not look at links. */
export function podLinks(flowCase: FlowCase): { readonly bridge?: string; readonly prefix?: string } {
  const { detectLocalMode, detectLocal } = flowCase.config
  const { bridgeInterface, interfaceNamePrefix } = (detectLocal ?? {}) as Readonly<Record<string, string>>
  if (detectLocalMode === 'BridgeInterface' && bridgeInterface !== undefined) return { bridge: bridgeInterface }
  if (detectLocalMode === 'InterfaceNamePrefix' && interfaceNamePrefix !== undefined)
    return { prefix: interfaceNamePrefix }
  return {}
}
