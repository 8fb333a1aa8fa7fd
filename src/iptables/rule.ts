import { formatCidr, type Cidr } from '../net/cidr.ts'
import type { Protocol } from '../net/protocol.ts'

/** A condition that may be turned round. */
export interface Negatable<T> {
  readonly not: T
}

/** One rule. What is left out matches everything. */
export interface Rule {
  readonly source?: Cidr | Negatable<Cidr>
  readonly destination?: Cidr | Negatable<Cidr>
  /** An interface's name; with a `+` at the end all that begin with it. */
  readonly input?: string | Negatable<string>
  readonly output?: string | Negatable<string>
  readonly protocol?: Protocol | 'icmp' | 'ipv6-icmp'
  /** Matches in iptables' words, between the protocol and the comment: `-m conntrack --ctstate NEW`. */
  readonly first?: string
  readonly comment?: string | undefined
  /** Matches in iptables' words, after the comment. */
  readonly matches?: string
  /** Needs a protocol. */
  readonly destinationPort?: number
  /** Loads the protocol's match although there is no port, as kube-proxy does. */
  readonly protocolMatch?: boolean
  /** In iptables' words: `KUBE-MARK-MASQ`, `DNAT --to-destination 10.0.0.1:80`. A rule without one only counts. */
  readonly target?: string
  /** A chain to go on in, and not to come back from: its end is the end of the chain that this one was called from. */
  readonly goto?: string
}

/**
 * A rule as iptables-save prints it (1.8, both variants): what was written can then be compared with what is read, text
 * with text. The order of the parts is iptables' own: addresses, interfaces, protocol, matches as they were given, target.
 */
export function formatRule(rule: Rule): string {
  let text = ''
  if (rule.source) text += negatable(' -s ', rule.source, formatCidr)
  if (rule.destination) text += negatable(' -d ', rule.destination, formatCidr)
  if (rule.input !== undefined) text += negatable(' -i ', rule.input, String)
  if (rule.output !== undefined) text += negatable(' -o ', rule.output, String)
  if (rule.protocol) text += ` -p ${rule.protocol}`
  if (rule.first !== undefined) text += ` ${rule.first}`
  if (rule.comment !== undefined) text += ` -m comment --comment ${quote(rule.comment)}`
  if (rule.matches !== undefined) text += ` ${rule.matches}`
  if (rule.destinationPort !== undefined) text += ` -m ${rule.protocol} --dport ${rule.destinationPort}`
  else if (rule.protocolMatch === true) text += ` -m ${rule.protocol}`
  if (rule.target !== undefined) text += ` -j ${rule.target}`
  if (rule.goto !== undefined) text += ` -g ${rule.goto}`
  return text.slice(1)
}

function negatable<T extends object | string>(option: string, value: T | Negatable<T>, format: (value: T) => string) {
  return typeof value === 'object' && 'not' in value ? ` !${option}${format(value.not)}` : option + format(value)
}

/** Quotes as iptables-save does (xtables_save_string): only where a character needs it. */
export function quote(text: string): string {
  return /^[\w-]+$/.test(text) ? text : `"${text.replaceAll(/["\\']/g, String.raw`\$&`)}"`
}

/** The match of `random` connections with a probability; xt_statistic holds it in 31 bits, and so it is printed. */
export function randomMatch(probability: number): string {
  const bits = Math.round(probability * 0x8000_0000)
  return `-m statistic --mode random --probability ${(bits / 0x8000_0000).toFixed(11)}`
}
