import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { BindBlock, CorefileBlock, HostPort } from '../dns-corefile/corefile.ts'
import { type IpAddress, parseIp } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import type { ListenAddress } from './listen-address.ts'

/** Addresses of this machine by interface. */
export type MachineAddresses = ReadonlyMap<string, readonly IpAddress[]>

/** What the machine has now, without link-local IPv6 addresses: who asks those needs to name an interface. */
export function readMachineAddresses(): MachineAddresses {
  return new Map(
    Object.entries(networkInterfaces()).map(([name, list = []]) => {
      return [name, list.filter(({ scopeid = 0 }) => scopeid === 0).map(({ address }) => parseIp(address))]
    }),
  )
}

/** Where a server block listens: what `bind` names, or all addresses of the machine. Throws {@link ParseError}. */
export function blockAddresses({ bind }: Pick<CorefileBlock, 'bind'>, machine: MachineAddresses): readonly IpAddress[] {
  const addresses = bind ? bind.flatMap((line) => boundAddresses(line, machine)) : [...machine.values()].flat()
  return [...new Set(addresses)]
}

function boundAddresses({ on, except }: BindBlock, machine: MachineAddresses): IpAddress[] {
  const left = new Set(except.flatMap((word) => meant(word, machine)))
  return on.flatMap((word) => meant(word, machine)).filter((ip) => !left.has(ip))
}

/** Unspecified addresses are all of their family. */
function meant(word: string, machine: MachineAddresses): readonly IpAddress[] {
  const all = [...machine.values()].flat()
  if (word === '0.0.0.0') return all.filter((ip) => !ip.includes(':'))
  if (word === '::') return all
  if (isIP(word) !== 0) return [parseIp(word)]
  const own = machine.get(word)
  if (own) return own
  throw new ParseError(
    `bind: "${word}" is neither an address nor an interface of this machine (there are ${[...machine.keys()].join(', ')})`,
  )
}

/** Where an HTTP server of a block listens: without a host on all addresses. */
export function httpAddress({ host, port }: HostPort): ListenAddress {
  return { host: host === undefined ? '0.0.0.0' : host === 'localhost' ? '127.0.0.1' : host, port }
}
