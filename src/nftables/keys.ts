import { lastAddress, networkOf, type Cidr } from '../net/cidr.ts'
import { writeIp, type IpAddress } from '../net/ip-address.ts'
import { macToBytes, type MacAddress } from '../net/mac-address.ts'
import type { Port } from '../net/port.ts'
import { protocolNumbers, type Protocol } from '../net/protocol.ts'
import type { RegisterBytes } from './objects.ts'

/**
 * One field of a key or of data, as the kernel has it in registers: addresses and ports in network order, marks, classes
 * and numgen results in host order (nf_tables loads them so), each padded to four bytes.
 */
export type KeyField =
  | { readonly ip: IpAddress }
  | { readonly protocol: Protocol }
  | { readonly port: Port | number }
  /** meta mark, meta priority, a numgen result. */
  | { readonly number: number }
  /** 6 bytes. */
  | { readonly mac: MacAddress }
  /** An interface name, 16 bytes. */
  | { readonly name: string }

const scratch = Buffer.alloc(64)

/** Joins fields into register bytes. At most 64 bytes (NFT_DATA_VALUE_MAXLEN). */
export function registerBytes(...fields: readonly KeyField[]): RegisterBytes {
  let at = 0
  for (const field of fields) {
    if ('ip' in field) at += writeIp(field.ip, scratch, at)
    else if ('protocol' in field) at = scratch.writeUInt32LE(protocolNumbers[field.protocol], at)
    else if ('port' in field) at = scratch.writeUInt16LE(0, scratch.writeUInt16BE(field.port, at))
    else if ('mac' in field) {
      scratch.fill(0, at + 6, at + 8)
      scratch.set(macToBytes(field.mac), at)
      at += 8
    } else if ('number' in field) at = scratch.writeUInt32LE(field.number, at)
    else {
      scratch.fill(0, at, at + 16)
      scratch.write(field.name, at, 15, 'latin1')
      at += 16
    }
  }
  return scratch.toString('latin1', 0, at)
}

/** A prefix as an element of an interval set keyed by one address: first and last address. */
export function addressRange(cidr: Cidr): readonly [first: RegisterBytes, last: RegisterBytes] {
  return [registerBytes({ ip: networkOf(cidr).address }), registerBytes({ ip: lastAddress(cidr) })]
}
