import { realKey, virtualKey, type Command, type Scheduler, type VirtualKey } from '../ipvs/objects.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { TableState } from '../nftables/objects.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import { frontendKey } from '../proxy/frontends.ts'
import { masqueradeMark } from '../proxy-nftables/nftables-classes.ts'
import { serviceVirtuals, virtualServers, type ServiceVirtuals, type WantedVirtual } from './ipvs-servers.ts'
import { compileIpvsTable, ipvsSets, serviceElements, type ServiceElements } from './ipvs-table.ts'
import { nodePortAddresses, placedKey, type PlacedFrontend } from './placed-frontends.ts'
import { assignMarks } from './second-views.ts'
import { ServiceMemo } from './service-memo.ts'

/** All that mode ipvs wants of the kernel. */
export interface IpvsWanted {
  readonly virtuals: ReadonlyMap<VirtualKey, WantedVirtual>
  readonly table: TableState
  /** What our device is to have: addresses of frontends that are not the machine's anyway. */
  readonly vips: ReadonlySet<IpAddress>
}

/** What mode ipvs wants depends on, beside Services. */
export interface IpvsSurroundings {
  /** The machine's addresses on other devices than ours. */
  readonly others: ReadonlySet<IpAddress>
  /** For Services that name none. */
  readonly scheduler: Scheduler
  /** Schedulers that this kernel lacks. @default none */
  readonly missing?: ReadonlySet<string>
  /** Our table as it is in the kernel: marks stay where they are. */
  readonly table: Pick<TableState, 'elements'> | undefined
}

/** What was compiled of each Service before. */
export interface IpvsMemo {
  readonly virtuals: ServiceMemo<ServiceVirtuals>
  readonly elements: ServiceMemo<ServiceElements>
}

/** A memo of nothing. */
export function newIpvsMemo(): IpvsMemo {
  return { virtuals: new ServiceMemo(), elements: new ServiceMemo() }
}

/** Compiles Services to what mode ipvs wants. Pure, but for what the memo takes note of. */
export function compileIpvs(
  services: CompiledServices,
  { others, scheduler, missing = new Set(), table }: IpvsSurroundings,
  memo: IpvsMemo = newIpvsMemo(),
): IpvsWanted {
  const nodeAddresses = nodePortAddresses(others, services.settings)
  const held = (placed: PlacedFrontend): number | undefined => {
    const data = table?.elements.get(ipvsSets[placed.frontend.family].marks.name)?.get(placedKey(placed))
    return data === undefined ? undefined : Buffer.from(data, 'latin1').readUInt32LE()
  }
  const masqueradeBit = masqueradeMark(services.settings)
  const marks = assignMarks(services, { nodeAddresses, held, masqueradeBit })
  const context = { scheduler, missing, nodeAddresses, marks }
  const common = `${scheduler} ${[...missing].join()} ${nodeAddresses.join()}`
  const vips = new Set<IpAddress>()
  const virtuals: ServiceVirtuals[] = []
  const frontends: ServiceElements[] = []
  for (const service of services.services.values()) {
    for (const frontend of service.frontends) {
      if (frontend.kind !== 'node-port' && !others.has(frontend.ip)) vips.add(frontend.ip)
    }
    const object = services.snapshot.services.get(service.key)
    const marked = marks.size === 0 ? [] : service.frontends.flatMap((one) => marks.get(frontendKey(one)) ?? [])
    const from = { object, ground: marked.length === 0 ? common : `${common} ${marked.join()}` }
    virtuals.push(memo.virtuals.of(service, from, () => serviceVirtuals(service, object, context)))
    frontends.push(memo.elements.of(service, from, () => serviceElements(service, context)))
  }
  return { virtuals: virtualServers(virtuals), table: compileIpvsTable({ services, frontends, vips }), vips }
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
