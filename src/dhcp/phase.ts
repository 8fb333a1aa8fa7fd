import type { IpAddress } from '../net/ip-address.ts'
import type { DhcpLease } from './lease.ts'
import type { ClientMessage } from './requests.ts'

/** The states of RFC 2131, figure 5; `probing` is the look for conflicts between REQUESTING and BOUND. */
export type DhcpState = Phase['kind'] | 'stopped'

/** One member for each kind, so that a switch tells them apart. */
export type LeasePhase<K> = K extends unknown ? { readonly kind: K; readonly lease: DhcpLease } : never

/** Where a client stands, with what it knows there. */
export type Phase =
  | { readonly kind: 'init' }
  | { readonly kind: 'selecting' }
  | { readonly kind: 'requesting'; readonly address: IpAddress; readonly server: IpAddress }
  | LeasePhase<'probing' | 'rebooting' | 'bound' | 'renewing' | 'rebinding'>

/** What a client says in a phase in which it waits for an answer. Pure. */
export function messageOf(
  phase: Exclude<Phase, { kind: 'init' } | { kind: 'bound' } | { kind: 'probing' }>,
): ClientMessage {
  switch (phase.kind) {
    case 'selecting':
      return { kind: 'discover' }
    case 'requesting':
      return { kind: 'select', address: phase.address, server: phase.server }
    case 'rebooting':
      return { kind: 'reboot', address: phase.lease.address.address }
    case 'renewing':
      return { kind: 'renew', lease: phase.lease }
    case 'rebinding':
      return { kind: 'rebind', lease: phase.lease }
    default:
      return phase satisfies never
  }
}
