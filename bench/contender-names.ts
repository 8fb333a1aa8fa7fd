import type { BenchMode } from './modes.ts'
import type { BenchOptions, Peer } from './options.ts'

/** Something that stands in a run: a mode of ours, no proxy, or a peer. */
export interface ContenderName {
  readonly name: string
  readonly mode: BenchMode | undefined
  readonly peer: Peer | undefined
}

/** A contender that was started. Its disposal ends it. */
export interface Contender extends AsyncDisposable {
  /** Why it is not there any more; undefined: it is. Rules in the kernel outlive who made them, so traffic alone does not show it. */
  ended(): string | undefined
}

/** All contenders of a run. */
export function contenderNames({ modes, peers }: BenchOptions): ContenderName[] {
  return [
    ...modes.map((mode) => ({ name: mode, mode, peer: undefined })),
    ...peers.map((peer) => ({ name: peer.name, mode: undefined, peer })),
  ]
}
