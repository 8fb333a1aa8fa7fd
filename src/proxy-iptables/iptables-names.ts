import { hash } from 'node:crypto'
import { maxChainName } from '../iptables/objects.ts'
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
  return hashedName(`KUBE-${kind}-`, port + options.protocol + (options.endpoint ?? ''))
}

/** The list of clients that xt_recent keeps for a member (`memberName`) of an affinity group that spans several ports. */
export function sharedRecentList(group: string, member: string): string {
  return hashedName('FAIRLEAD-', `${group} ${member}`)
}

/**
 * Whether a chain is kube-proxy's or ours, in any table. Not those that kubelet has too (KUBE-FIREWALL) or alone
 * (KUBE-IPTABLES-HINT, KUBE-KUBELET-CANARY).
 */
export function isServiceChain(chain: string): boolean {
  // KUBE-XLB- is what releases before 1.24 called KUBE-EXT-.
  return ours.has(chain) || /^KUBE-(?:SVC|SVL|EXT|FW|SEP|XLB)-/.test(chain)
}

const base32 = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567')
/** Names are put together here, letter by letter: of strings that were added up, sorting 60,000 takes twice as long. */
const letters = Buffer.alloc(maxChainName)

/** A name with the first ten bytes of the text's SHA-256 in it: 16 characters of five bits (RFC 4648, section 6). */
function hashedName(prefix: string, text: string): string {
  const bytes = hash('sha256', text, 'binary')
  for (let i = 0; i < prefix.length; i++) letters[i] = prefix.charCodeAt(i)
  let end = prefix.length
  let bits = 0
  for (let i = 0, held = 0; i < 10; i++) {
    bits = ((bits << 8) | bytes.charCodeAt(i)) & 0xfff
    for (held += 8; held >= 5; held -= 5) letters[end++] = base32[(bits >> (held - 5)) & 31]!
  }
  return letters.toString('latin1', 0, end)
}
