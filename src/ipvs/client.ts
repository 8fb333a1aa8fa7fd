import type { Command, RealServerState, Timeouts, VirtualAddress, VirtualServerState } from './objects.ts'

/** IPVS of one network namespace: the kernel's (`open-client.ts`), or the fake's (`fake-ipvs.ts`). */
export interface IpvsClient extends Disposable {
  /** All virtual servers with their real servers. One question for each virtual server. Throws IpvsUnavailableError, NetlinkError. */
  list(): Promise<readonly VirtualServerState[]>
  /** The real servers of one virtual server, with what they do; empty when there is no such virtual server. */
  reals(at: VirtualAddress): Promise<readonly RealServerState[]>
  /**
   * Makes changes in order, many in one datagram. The kernel has no transactions: all are tried, then what was refused is thrown
   * (NetlinkError, or several in a NetlinkRequestsError). Nothing to do costs nothing.
   */
  run(commands: readonly Command[]): Promise<RunResult>
  timeouts(): Promise<Timeouts>
  /** Those that are 0 stay as they are. */
  setTimeouts(timeouts: Timeouts): Promise<void>
  info(): Promise<IpvsInfo>
}

/** What changes cost. */
export interface RunResult {
  readonly commands: number
  readonly bytes: number
  /** Datagrams: one send(2) each, and one answer when nothing is refused. */
  readonly messages: number
}

/** About the kernel's IPVS. */
export interface IpvsInfo {
  /** Of IPVS itself: `1.2.1` since 2003. */
  readonly version: string
  /** Buckets for connections, a parameter of the module. */
  readonly connectionTableSize: number
}

/** This kernel has no IPVS; the message says how to get it. */
export class IpvsUnavailableError extends Error {
  override readonly name = 'IpvsUnavailableError'
}
