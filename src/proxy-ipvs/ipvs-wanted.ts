import {
  realKey,
  virtualKey,
  type Command,
  type Scheduler,
  type VirtualKey,
  type VirtualServerWithReals,
} from '../ipvs/objects.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { TableState } from '../nftables/objects.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import { nodePortAddresses, virtualServers } from './ipvs-servers.ts'
import { compileIpvsTable } from './ipvs-table.ts'

/** All that mode ipvs wants of the kernel. */
export interface IpvsWanted {
  readonly virtuals: ReadonlyMap<VirtualKey, VirtualServerWithReals>
  readonly table: TableState
  /** What our device is to have: addresses of frontends that are not the machine's anyway. */
  readonly vips: ReadonlySet<IpAddress>
}

/** Compiles Services to what mode ipvs wants. Pure. `others`: the machine's addresses on other devices. */
export function compileIpvs(
  services: CompiledServices,
  { others, scheduler }: { readonly others: ReadonlySet<IpAddress>; readonly scheduler: Scheduler },
): IpvsWanted {
  const nodeAddresses = nodePortAddresses(others, services.settings)
  const vips = new Set<IpAddress>()
  for (const { frontends } of services.services.values()) {
    for (const frontend of frontends) {
      if (frontend.kind !== 'node-port' && !others.has(frontend.ip)) vips.add(frontend.ip)
    }
  }
  return {
    virtuals: virtualServers(services, { scheduler, nodeAddresses }),
    table: compileIpvsTable({ services, nodeAddresses, vips }),
    vips,
  }
}

/** A command as ipvsadm would be given it. */
export function formatCommand(command: Command): string {
  switch (command.op) {
    case 'add-virtual':
    case 'set-virtual': {
      const { at, scheduler, persistence, fallback, hashPort } = command.virtual
      const flags = [fallback && `${scheduler}-fallback`, hashPort && `${scheduler}-port`].filter(Boolean).join(',')
      const more = `${persistence ? ` -p ${persistence.seconds}` : ''}${flags ? ` -b ${flags}` : ''}`
      return `ipvsadm ${command.op === 'add-virtual' ? '-A' : '-E'} ${place(at)} -s ${scheduler}${more}`
    }
    case 'delete-virtual':
      return `ipvsadm -D ${place(command.at)}`
    case 'add-real':
    case 'set-real': {
      const verb = command.op === 'add-real' ? '-a' : '-e'
      return `ipvsadm ${verb} ${place(command.at)} -r ${realKey(command.real)} -m -w ${command.real.weight}`
    }
    case 'delete-real':
      return `ipvsadm -d ${place(command.at)} -r ${realKey(command.real)}`
    default:
      return command satisfies never
  }
}

function place(at: Parameters<typeof virtualKey>[0]): string {
  if ('mark' in at) return `-f ${at.mark}${at.family === 6 ? ' -6' : ''}`
  const option = { tcp: '-t', udp: '-u', sctp: '--sctp-service' }[at.protocol]
  return `${option} ${virtualKey(at).split(' ')[1]}`
}
