import { ipFromBytes, ipToBytes, type IpAddress } from '../net/ip-address.ts'
import { DhcpMessageError } from './dhcp-message-error.ts'
import { decodeRoutes, encodeRoutes, type DhcpRoute } from './classless-routes.ts'

/** How the value of an option is written, and what it is here. */
interface OptionTypes {
  readonly ip: IpAddress
  /** At least one. */
  readonly ips: readonly IpAddress[]
  readonly u8: number
  readonly u16: number
  readonly u32: number
  /** ASCII, at least one character; NULs at the end are taken off (RFC 2132, 2). */
  readonly text: string
  /** At least one byte. */
  readonly bytes: Uint8Array
  readonly routes: readonly DhcpRoute[]
}

/** The options that are understood, by the numbers of RFC 2132 and RFC 3442. Others are passed over. */
export const dhcpOptions = {
  subnetMask: { code: 1, type: 'ip' },
  routers: { code: 3, type: 'ips' },
  dnsServers: { code: 6, type: 'ips' },
  hostname: { code: 12, type: 'text' },
  domain: { code: 15, type: 'text' },
  mtu: { code: 26, type: 'u16' },
  broadcast: { code: 28, type: 'ip' },
  requestedAddress: { code: 50, type: 'ip' },
  leaseSeconds: { code: 51, type: 'u32' },
  messageType: { code: 53, type: 'u8' },
  server: { code: 54, type: 'ip' },
  /** Codes of the options that the client would like to have. */
  requestedOptions: { code: 55, type: 'bytes' },
  errorText: { code: 56, type: 'text' },
  maxMessageSize: { code: 57, type: 'u16' },
  renewSeconds: { code: 58, type: 'u32' },
  rebindSeconds: { code: 59, type: 'u32' },
  vendorClass: { code: 60, type: 'text' },
  clientId: { code: 61, type: 'bytes' },
  routes: { code: 121, type: 'routes' },
} as const satisfies Record<string, { code: number; type: keyof OptionTypes }>

export type DhcpOptionName = keyof typeof dhcpOptions

/** Options by name; each at most once. */
export type DhcpOptions = { readonly [K in DhcpOptionName]?: OptionTypes[(typeof dhcpOptions)[K]['type']] }

const PAD = 0
const OVERLOAD = 52
const END = 255

const names = new Map<number, DhcpOptionName>(
  Object.entries(dhcpOptions).map(([name, { code }]) => [code, name as DhcpOptionName]),
)

/** Options and the end mark. Values longer than 255 bytes become several options of one code (RFC 3396). */
export function encodeOptions(options: DhcpOptions): Buffer {
  const parts: Uint8Array[] = []
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue
    const { code, type } = dhcpOptions[name as DhcpOptionName]
    const bytes = encodeValue(type, value)
    for (let at = 0; at < bytes.length; at += 255) {
      const piece = bytes.subarray(at, at + 255)
      parts.push(Uint8Array.of(code, piece.length), piece)
    }
  }
  return Buffer.concat([...parts, Uint8Array.of(END)])
}

/**
 * Reads the options field, and the fields `file` and `sname` where option 52 says that they hold more (RFC 2132, 9.3).
 * Throws {@link DhcpMessageError} when an option is cut off, or has a length or value that it cannot have.
 */
export function decodeOptions(field: Buffer, overload: { readonly file: Buffer; readonly sname: Buffer }): DhcpOptions {
  const pieces = new Map<number, Buffer[]>()
  collect(field, pieces)
  const where = pieces.get(OVERLOAD)
  if (where) {
    const value = where.length === 1 && where[0]!.length === 1 ? where[0]![0]! : 0
    if (value < 1 || value > 3) throw new DhcpMessageError('option 52 (overload) must be one byte of 1, 2 or 3')
    if (value & 1) collect(overload.file, pieces)
    if (value & 2) collect(overload.sname, pieces)
  }
  const options: Record<string, unknown> = {}
  for (const [code, buffers] of pieces) {
    const name = names.get(code)
    if (name) options[name] = decodeValue(name, Buffer.concat(buffers))
  }
  return options
}

function collect(field: Buffer, pieces: Map<number, Buffer[]>): void {
  let at = 0
  while (at < field.length) {
    const code = field[at++]!
    if (code === PAD) continue
    if (code === END) return
    const length = field[at++]
    if (length === undefined || at + length > field.length) {
      throw new DhcpMessageError(`option ${code} is longer than what is left of the message`)
    }
    const value = field.subarray(at, at + length)
    const earlier = pieces.get(code)
    if (earlier) earlier.push(value)
    else pieces.set(code, [value])
    at += length
  }
  // RFC 2131, 3: the end mark is a must. Servers that leave it out exist; nothing is ambiguous without it.
}

function encodeValue(type: keyof OptionTypes, value: unknown): Uint8Array {
  switch (type) {
    case 'ip':
      return ipToBytes(value as IpAddress)
    case 'ips':
      return Buffer.concat((value as readonly IpAddress[]).map(ipToBytes))
    case 'u8':
      return Uint8Array.of(value as number)
    case 'u16': {
      const bytes = Buffer.alloc(2)
      bytes.writeUInt16BE(value as number)
      return bytes
    }
    case 'u32': {
      const bytes = Buffer.alloc(4)
      bytes.writeUInt32BE(value as number)
      return bytes
    }
    case 'text':
      return Buffer.from(value as string, 'latin1')
    case 'bytes':
      return value as Uint8Array
    case 'routes':
      return encodeRoutes(value as readonly DhcpRoute[])
    default:
      return type satisfies never
  }
}

function decodeValue(name: DhcpOptionName, bytes: Buffer): unknown {
  const { code, type } = dhcpOptions[name]
  const expect = (ok: boolean, what: string): void => {
    if (!ok) throw new DhcpMessageError(`option ${code} (${name}) must have ${what}, and has ${bytes.length} bytes`)
  }
  switch (type) {
    case 'ip':
      expect(bytes.length === 4, '4 bytes')
      return ipFromBytes(bytes)
    case 'ips':
      expect(bytes.length > 0 && bytes.length % 4 === 0, 'a multiple of 4 bytes')
      return Array.from({ length: bytes.length / 4 }, (_, i) => ipFromBytes(bytes.subarray(4 * i, 4 * i + 4)))
    case 'u8':
      expect(bytes.length === 1, '1 byte')
      return bytes[0]
    case 'u16':
      expect(bytes.length === 2, '2 bytes')
      return bytes.readUInt16BE()
    case 'u32':
      expect(bytes.length === 4, '4 bytes')
      return bytes.readUInt32BE()
    case 'text': {
      const text = bytes.toString('latin1').replace(/\0+$/, '')
      expect(text.length > 0, 'at least one character')
      return text
    }
    case 'bytes':
      expect(bytes.length > 0, 'at least 1 byte')
      return Uint8Array.from(bytes)
    case 'routes':
      return decodeRoutes(bytes)
    default:
      return type satisfies never
  }
}
