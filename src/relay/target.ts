import type { IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'

/** An address and port: where a relay listens, and where it leads. */
export interface Target {
  readonly ip: IpAddress
  readonly port: Port
}

/** Says where a client's connection, or its datagrams, lead; undefined: nowhere. `failed` are those that were tried in vain. */
export type Choose<Client extends Target = Target> = (client: Client, failed: readonly Target[]) => Target | undefined

/** Text that two targets share when they are the same. */
export function targetKey(target: Target): string {
  return `${target.ip} ${target.port}`
}
