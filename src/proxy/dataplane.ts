import type { IpAddress } from '../net/ip-address.ts'
import type { CompiledServices } from './compile-services.ts'
import type { Packet } from './decide.ts'
import type { RecalledSlots } from './frontends.ts'

/** A proxy mode: brings the kernel (or a socket) to what was compiled. One sync at a time; {@link SyncLoop} sees to it. */
export interface Dataplane {
  /** The mode's name in configuration, metrics and logs. */
  readonly name: string
  /**
   * Services as the last sync brought them to the kernel, where connections end at this daemon, which makes others to the
   * endpoints. Absent: the kernel has them as they were given.
   */
  readonly redirected?: CompiledServices | undefined
  /** Tries what the mode needs. What it cannot do stands here with its reason, and nowhere else. */
  probe(): Promise<ProbeResult>
  /** What a sync would change, without changing anything. */
  plan(services: CompiledServices): Promise<Plan>
  /**
   * Brings the kernel to `services`. The first sync adopts what an earlier daemon left; later ones cost what changed.
   * When it throws, the next one reads the kernel again.
   */
  sync(services: CompiledServices, options?: SyncOptions): Promise<SyncResult>
  /** Does ahead, while the sources are read, what the first sync needs and does not depend on them. What fails, that sync says. */
  prepare?(): Promise<void>
  /** Slots that the kernel holds from an earlier daemon, so that a restart moves none of them. */
  recall?(): Promise<RecalledSlots | undefined>
  /** What in the kernel decides about a packet, in the mode's own words, and whether that is what is wanted. */
  explain?(services: CompiledServices, packet: PacketAtNode, host: ExplainHost): Promise<Evidence>
  /** Calls `listener` when something else changed what this mode programmed: time for a sync. */
  watch?(listener: () => void): void
  /**
   * Removes everything of this mode from the kernel, without any state. Nothing to remove is no error. With `keepAnchor`
   * another mode goes on: what keeps connections alive meanwhile (nftables-anchor.ts) stays.
   */
  cleanup(options?: CleanupOptions): Promise<void>
}

/** How a mode is removed. */
export interface CleanupOptions {
  readonly keepAnchor?: boolean
}

/** A connection's first packet, with the interface that it came in at; undefined: a process of the node made it. */
export interface PacketAtNode extends Packet {
  readonly iifname: string | undefined
}

/** What an explanation must know of the node. */
export interface ExplainHost {
  readonly isLocal: (ip: IpAddress) => boolean
}

/** What was found in the kernel. */
export interface Evidence {
  /** The chains, rules and elements that the packet meets, in order. */
  readonly lines: readonly string[]
  /** Where the kernel is not as it should be; empty: it agrees. */
  readonly differences: readonly string[]
}

/** Whether a mode can run here. */
export interface ProbeResult {
  readonly usable: boolean
  /** Why not. */
  readonly reason?: string
  /** Parts of Service semantics that the mode does not have, each with its reason. */
  readonly limits: readonly string[]
}

/** What a sync would do. */
export interface Plan {
  /** The changes in the mode's own language, one per line. Empty when there is nothing to do. */
  readonly lines: readonly string[]
  readonly elements: number
  readonly rules: number
}

export interface SyncOptions {
  /** Read the kernel and compare everything, instead of trusting what was programmed before. */
  readonly verify?: boolean
  readonly signal?: AbortSignal
}

/** What a sync did, and what it cost. */
export interface SyncResult {
  /** `full`: the kernel was read and compared; `change`: only changed Services were looked at. */
  readonly kind: 'full' | 'change'
  /** Services whose frontends differ from the last sync's. */
  readonly servicesChanged: number
  /** Set and map elements added or deleted. */
  readonly elements: number
  /** Rules added. */
  readonly rules: number
  readonly bytes: number
  readonly messages: number
  /** Milliseconds that the kernel worked. */
  readonly kernelMs: number
  /** Something else had changed what was programmed, and it was put right. */
  readonly repaired: boolean
}
