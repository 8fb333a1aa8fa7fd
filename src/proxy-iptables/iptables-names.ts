import { hash } from 'node:crypto'
import type { Protocol } from '../net/protocol.ts'

/** kube-proxy's chains, and a few of ours for what it lacks (pkg/proxy/iptables/proxier.go). */
export const chains = {
  services: 'KUBE-SERVICES',
  externalServices: 'KUBE-EXTERNAL-SERVICES',
  nodePorts: 'KUBE-NODEPORTS',
  postrouting: 'KUBE-POSTROUTING',
  markMasquerade: 'KUBE-MARK-MASQ',
  forward: 'KUBE-FORWARD',
  firewall: 'KUBE-PROXY-FIREWALL',
  canary: 'KUBE-PROXY-CANARY',
  /** Empty. Says that the rules are this mode's and not a kube-proxy's. */
  owner: 'FAIRLEAD-SERVICES',
  /** Marks what does not come from one of several pod networks; kube-proxy knows only one. */
  markUnlessPod: 'FAIRLEAD-MARK-UNLESS-POD',
} as const

const ours: ReadonlySet<string> = new Set(Object.values(chains))

/** What a chain of a Service port is for. The letters are kube-proxy's. */
export type PortChain = 'SVC' | 'SVL' | 'EXT' | 'FW' | 'SEP'

/**
 * The chain of a Service port, the same on every node: the first 16 characters of the base32 of a SHA-256.
 * `port` is `NAMESPACE/NAME:PORT`, or `NAMESPACE/NAME` for a port without a name; `endpoint` is `IP:PORT`, for SEP.
 */
export function portChain(kind: PortChain, port: string, options: { protocol: Protocol; endpoint?: string }): string {
  return `KUBE-${kind}-${shortHash(port + options.protocol + (options.endpoint ?? ''))}`
}

/** The list of clients that xt_recent keeps for an endpoint of an affinity group that spans several ports. */
export function sharedRecentList(group: string, address: string): string {
  return `FAIRLEAD-${shortHash(`${group} ${address}`)}`
}

/**
 * Whether a chain is kube-proxy's or ours, in any table. Not those that kubelet has too (KUBE-FIREWALL) or alone
 * (KUBE-IPTABLES-HINT, KUBE-KUBELET-CANARY).
 */
export function isServiceChain(chain: string): boolean {
  // KUBE-XLB- is what releases before 1.24 called KUBE-EXT-.
  return ours.has(chain) || /^KUBE-(?:SVC|SVL|EXT|FW|SEP|XLB)-/.test(chain)
}

const base32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
/** Of ten bits each: there are several names for each endpoint. */
const base32Pairs: readonly string[] = Array.from({ length: 1024 }, (_, i) => base32[i >> 5]! + base32[i & 31]!)

/** Ten bytes are 16 characters of five bits (RFC 4648, section 6). */
function shortHash(text: string): string {
  const bytes = hash('sha256', text, 'binary')
  let name = ''
  for (let at = 0; at < 10; at += 5) {
    const high = (bytes.charCodeAt(at) << 12) | (bytes.charCodeAt(at + 1) << 4) | (bytes.charCodeAt(at + 2) >> 4)
    const low = ((bytes.charCodeAt(at + 2) & 15) << 16) | (bytes.charCodeAt(at + 3) << 8) | bytes.charCodeAt(at + 4)
    name += base32Pairs[high >> 10]! + base32Pairs[high & 1023]! + base32Pairs[low >> 10]! + base32Pairs[low & 1023]!
  }
  return name
}
