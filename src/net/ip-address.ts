import { isIPv4 } from 'node:net'
import { Address6 } from 'ip-address'
import { ParseError } from './parse-error.ts'

declare const brand: unique symbol

/** An IPv4 or IPv6 address in its one correct text form (RFC 5952 for IPv6), so that equal addresses are equal strings. */
export type IpAddress = string & { readonly [brand]: 'IpAddress' }

/** 4 or 6. */
export type IpFamily = 4 | 6

export const ipFamilies: readonly IpFamily[] = [4, 6]

/** Parses text as IPv4 or IPv6. Called where data enters. IPv4-mapped IPv6 addresses become IPv4. Throws {@link ParseError}. */
export function parseIp(text: string): IpAddress {
  if (isIPv4(text)) return text as IpAddress
  if (text.includes(':') && !text.includes('%') && !text.includes('/')) {
    try {
      const parsed = new Address6(text)
      if (parsed.isMapped4()) return parsed.to4().correctForm() as IpAddress
      return parsed.correctForm() as IpAddress
    } catch {
      // falls through to the one message
    }
  }
  throw new ParseError(`"${text}" is not an IP address (expected IPv4 like 10.0.0.1 or IPv6 like fd00::1)`)
}

export function ipFamilyOf(ip: IpAddress): IpFamily {
  return ip.includes(':') ? 6 : 4
}

/** An address of 127.0.0.0/8, or ::1. */
export function isLoopback(ip: IpAddress): boolean {
  return ip === '::1' || ip.startsWith('127.')
}

/** The address in network byte order: 4 or 16 bytes. */
export function ipToBytes(ip: IpAddress): Uint8Array {
  const bytes = new Uint8Array(ipFamilyOf(ip) === 4 ? 4 : 16)
  writeIp(ip, bytes, 0)
  return bytes
}

/** Writes the address in network byte order at `offset` and returns the number of bytes written (4 or 16). */
export function writeIp(ip: IpAddress, into: Uint8Array, offset: number): number {
  if (ipFamilyOf(ip) === 6) {
    into.set(ipv6Bytes(ip), offset)
    return 16
  }
  let octet = 0
  let at = offset
  for (let i = 0; i < ip.length; i++) {
    const digit = ip.charCodeAt(i) - 48
    if (digit >= 0) octet = octet * 10 + digit
    else {
      into[at++] = octet
      octet = 0
    }
  }
  into[at] = octet
  return 4
}

/** The address that 4 or 16 bytes in network byte order mean. Throws {@link ParseError} at any other length. */
export function ipFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as IpAddress
  if (bytes.length === 16) return Address6.fromByteArray([...bytes]).correctForm() as IpAddress
  throw new ParseError(`an IP address has 4 or 16 bytes, not ${bytes.length}`)
}

/** The address as an unsigned number, for arithmetic on pools. */
export function ipToBigInt(ip: IpAddress): bigint {
  let value = 0n
  for (const byte of ipToBytes(ip)) value = (value << 8n) | BigInt(byte)
  return value
}

export function ipFromBigInt(value: bigint, family: IpFamily): IpAddress {
  const bytes = new Uint8Array(family === 4 ? 4 : 16)
  for (let i = bytes.length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn)
  return ipFromBytes(bytes)
}

/** Orders addresses: IPv4 before IPv6, then by value. */
export function compareIp(a: IpAddress, b: IpAddress): number {
  const left = ipToBytes(a)
  const right = ipToBytes(b)
  if (left.length !== right.length) return left.length - right.length
  return Buffer.compare(left, right)
}

function ipv6Bytes(ip: IpAddress): Uint8Array {
  const digits = new Address6(ip).toUnsignedByteArray()
  const bytes = new Uint8Array(16)
  bytes.set(digits, 16 - digits.length)
  return bytes
}
