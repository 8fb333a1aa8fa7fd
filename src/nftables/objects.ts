import type { IpAddress } from '../net/ip-address.ts'

/**
 * The objects of an nf_tables table, in nft's own words. Plain data: a desired table is written with these, a fake holds
 * them, the client turns them into messages, and `format.ts` prints them as nft would.
 */

export type NftFamily = 'inet' | 'ip' | 'ip6' | 'bridge'

/** A value that a rule can load into registers, and that a set's key or data can be typed by (`typeof`). */
export type Expression =
  | 'ip saddr'
  | 'ip daddr'
  | 'ip6 saddr'
  | 'ip6 daddr'
  /** Tables of family bridge see it in every frame. */
  | 'ether saddr'
  | 'ether daddr'
  /** The sender's address in an ARP packet (family bridge). */
  | 'arp saddr ip'
  /** ETH_P_*: what the frame carries, behind at most one VLAN tag (family bridge). */
  | 'meta protocol'
  | 'meta l4proto'
  | 'meta nfproto'
  | 'meta mark'
  | 'meta priority'
  | 'iifname'
  | 'oifname'
  | 'th sport'
  | 'th dport'
  /** Sees IPv6 only; the rule has to make sure that `meta l4proto` is 58. */
  | 'icmpv6 type'
  /** The address that a neighbour solicitation or advertisement is about. nft before 1.0.7 lists it as `@th,64,128`. */
  | 'icmpv6 taddr'
  | 'ct state'
  | 'ct status'
  | 'ct direction'
  | 'fib daddr type'
  /** `numgen random mod N`: a number from 0 to N - 1. As a set's field: N is only shown. */
  | { readonly numgenRandom: number }
  /** `meta priority & MASK`. Only in rules: a set's field is `meta priority`. */
  | { readonly priorityMask: number }

/** A base chain's place in the kernel. Without one a chain is only jumped to. */
export interface ChainHook {
  readonly type: 'filter' | 'nat' | 'route'
  readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting'
  readonly priority: number
}

export interface Chain {
  readonly name: string
  readonly hook?: ChainHook
  readonly rules: readonly Rule[]
}

export interface Rule {
  readonly statements: readonly Statement[]
  readonly comment?: string
}

/** One step of a rule. A match that fails ends the rule. */
export type Statement =
  /** Compares with one value (register bytes in network order for packet fields, see `keys.ts`). */
  | { readonly kind: 'match'; readonly left: Expression; readonly op: '==' | '!='; readonly value: MatchValue }
  /** `ip daddr . th dport @set` */
  | { readonly kind: 'in-set'; readonly key: readonly Expression[]; readonly set: string; readonly negate?: boolean }
  /** `meta priority set KEY map @map`, or a constant, or a number that is drawn. */
  | { readonly kind: 'set-priority'; readonly to: MapLookup | Draw | number }
  /**
   * `update @map { KEY timeout T : DATA }`: adds the element, and where it is there starts its time anew and leaves its data.
   * Of a map with {@link NftSet.dynamic}. A map that is full ends the rule.
   */
  | {
      readonly kind: 'update'
      readonly map: string
      readonly key: readonly Expression[]
      readonly data: readonly Expression[]
      readonly timeoutSeconds: number
    }
  /** `delete @map { KEY : DATA }`: the data is only said because nft wants it. No element, no effect. */
  | {
      readonly kind: 'delete'
      readonly map: string
      readonly key: readonly Expression[]
      readonly data: readonly Expression[]
    }
  /** `meta mark set KEY map @map`, or a constant. No element ends the rule. */
  | { readonly kind: 'set-mark'; readonly to: MapLookup | number }
  /** `meta mark set meta mark | bits` */
  | { readonly kind: 'mark-or'; readonly bits: number }
  /** `meta mark set meta mark ^ bits` */
  | { readonly kind: 'mark-xor'; readonly bits: number }
  /** `KEY vmap @map`: no element, no effect. */
  | { readonly kind: 'vmap'; readonly key: readonly Expression[]; readonly map: string }
  /** The data of the map is address . port. */
  | { readonly kind: 'dnat'; readonly family: 'ip' | 'ip6'; readonly to: MapLookup }
  | { readonly kind: 'masquerade' }
  /** `snat ip to ADDRESS` */
  | { readonly kind: 'snat'; readonly family: 'ip' | 'ip6'; readonly to: IpAddress }
  /** ICMP port unreachable; `tcp-reset` is for TCP packets alone: also one of an old connection ends it, where ICMP would not. */
  | { readonly kind: 'reject'; readonly with?: 'tcp-reset' }
  | { readonly kind: 'counter' }
  | { readonly kind: 'accept' | 'drop' | 'return' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string }

export interface MapLookup {
  readonly key: readonly Expression[]
  readonly map: string
}

/** A number from `offset` to `offset + modulus - 1`. */
export type Draw =
  /** `numgen random mod N offset O` */
  | { readonly draw: 'random'; readonly modulus: number; readonly offset: number }
  /** `numgen inc mod N offset O`: one after another, over all packets that meet this rule. */
  | { readonly draw: 'in-turn'; readonly modulus: number; readonly offset: number }
  /** `jhash KEY mod N seed S offset O`: the same for the same key. */
  | {
      readonly draw: 'hash'
      readonly key: readonly Expression[]
      readonly modulus: number
      readonly seed: number
      readonly offset: number
    }

export type MatchValue =
  /** A whole register value: a mark, a class, a protocol number (`meta l4proto`), NFPROTO (`meta nfproto`). */
  | { readonly number: number }
  /** One of several numbers, as an anonymous set: `meta l4proto { tcp, udp }`. */
  | { readonly anyOf: readonly number[] }
  /** A prefix of an address. */
  | { readonly address: string; readonly prefix?: number }
  /** An interface name; with a trailing `*` a prefix of names. */
  | { readonly name: string }
  /** Any of these bits is set (`ct status dnat`, `ct state new`, `meta mark & bits != 0`); with op != none is. */
  | { readonly bits: number }
  /** `meta priority & mask == equals`, `meta mark & mask == equals` */
  | { readonly mask: number; readonly equals: number }

/** A set, or a map with `data`, or a verdict map. Its elements are kept apart ({@link Elements}): there may be millions. */
export interface NftSet {
  readonly name: string
  readonly key: readonly Expression[]
  /** `verdict` makes a verdict map. */
  readonly data?: readonly Expression[] | 'verdict'
  /**
   * Elements are ranges: the key is the first value of the range, the data its last (`addressRange` in `keys.ts`). Only
   * sets, not maps. Keep such sets small: with several fields the kernel copies the whole set at each commit.
   */
  readonly interval?: boolean
  /**
   * Elements come from rules (`update`), at most `size` of them, and go by themselves when their time is over. They are
   * nobody's wish: a client does not read them, and a diff leaves them alone.
   */
  readonly dynamic?: { readonly size: number }
  readonly comment?: string
}

/**
 * Register bytes of a key or of data, as a latin1 string: comparable, hashable and compact. Made by `keys.ts`. Fields are
 * padded to four bytes each, as concatenations are in the kernel.
 */
export type RegisterBytes = string

/**
 * Elements of one set: key to data. Sets have empty data, interval sets the last key of the range (empty: the key alone);
 * verdict maps have `goto CHAIN`, `jump CHAIN`, `accept`, `drop` or `return`.
 */
export type Elements = ReadonlyMap<RegisterBytes, string>

/** A whole table: what is wanted, or what the kernel holds. */
export interface TableState {
  readonly family: NftFamily
  readonly name: string
  readonly comment?: string
  /**
   * What tells these rules from others, where that is less than all of them: those that are made alike for each of many
   * numbers need not be in it. @default all rules and sets
   */
  readonly rulesKnownBy?: string
  readonly chains: readonly Chain[]
  readonly sets: readonly NftSet[]
  readonly elements: ReadonlyMap<string, Elements>
}

/** ct status bits (include/uapi/linux/netfilter/nf_conntrack_common.h). */
export const ctStatusBits = { snat: 0x10, dnat: 0x20 } as const

/** ct state bits as nf_tables loads them (NF_CT_STATE_BIT). */
export const ctStateBits = { invalid: 0x1, established: 0x2, related: 0x4, new: 0x8 } as const

/** NFPROTO_*, for `meta nfproto`. */
export const nfproto = { ipv4: 2, ipv6: 10 } as const

/** RTN_LOCAL, for `fib daddr type`. */
export const fibTypeLocal = 2
