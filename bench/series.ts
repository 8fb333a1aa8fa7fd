import type { Estimate } from './statistics.ts'

/** What figures are of. Times are compared beyond noise, counts exactly. */
export type FigureKind = 'time' | 'rate' | 'size' | 'count' | 'share'

/** What a figure is, apart from its values: two runs are compared by all of this but the unit. */
export interface FigureKey {
  /** In words, with what it depends on apart from the rest of the key: `connect to the last Service`. */
  readonly figure: string
  /** `us`, `ms`, `bytes`, `rules`, `/s`, `MB`, `%`, or empty. */
  readonly unit: string
  /** `count` is work that was counted: it is the same in every run of the same code on any machine, and `bench:check` guards it. */
  readonly kind: FigureKind
  readonly better: 'less' | 'more' | 'neither'
  /** `nftables`, `iptables-legacy`, ..., `direct`, or a peer's name. */
  readonly mode?: string
  readonly services?: number
  readonly endpoints?: number
  /** What else tells it from others: `{protocol: 'udp'}`. */
  readonly labels?: Readonly<Record<string, string>>
}

/** A figure with what was measured. */
export interface Series extends FigureKey {
  /** Which rounds the values are of; as many as there are values. */
  readonly rounds: readonly number[]
  readonly values: readonly number[]
  /** The samples that each value was made of (as their median, unless the suite says otherwise), where there were several. */
  readonly raw?: readonly (readonly number[])[]
}

/** A figure that was worked out of others: a slope, a ratio. */
export interface Derived extends FigureKey, Estimate {}

/** The key as a text: for looking up, and for baselines. */
export function keyOf(suite: string, key: FigureKey): string {
  const labels = Object.entries(key.labels ?? {}).map(([name, value]) => `${name}=${value}`)
  const parts = [
    suite,
    key.figure,
    key.mode,
    key.services === undefined ? undefined : `${key.services} Services`,
    key.endpoints === undefined ? undefined : `${key.endpoints} endpoints`,
    ...labels.toSorted(),
  ]
  return parts.filter((part) => part !== undefined && part !== '').join(' | ')
}
