import { parseIp, type IpAddress } from './ip-address.ts'
import { ParseError } from './parse-error.ts'
import { parsePort, type Port } from './port.ts'
import { parseProtocol, type Protocol } from './protocol.ts'

/** An address, a port and a protocol: where a connection goes. */
export interface TransportAddress {
  readonly ip: IpAddress
  readonly port: Port
  readonly protocol: Protocol
}

/** Parses `10.96.0.5:80` and `[fd00::5]:53/udp`; without a protocol it is TCP. Throws {@link ParseError}. */
export function parseTransportAddress(text: string): TransportAddress {
  const [, bracketed, plain, port, protocol = 'tcp'] =
    /^(?:\[([^\]]+)\]|([^:]+)):(\d+)(?:\/(tcp|udp|sctp))?$/i.exec(text) ?? []
  try {
    return {
      ip: parseIp(bracketed ?? plain ?? ''),
      port: parsePort(Number(port)),
      protocol: parseProtocol(protocol),
    }
  } catch (cause) {
    const expected = 'expected an IP address and a port, like 10.96.0.5:80 or [fd00::5]:53/udp'
    throw new ParseError(`"${text}" (${expected})`, { cause })
  }
}
