import { diffServers, hasConnections } from '../ipvs/diff.ts'
import { virtualKey, type Command, type VirtualKey, type VirtualServerState } from '../ipvs/objects.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { ReadTable } from '../nftables/client.ts'
import { diffTable } from '../nftables/diff.ts'
import { withFingerprint } from '../nftables/fingerprint.ts'
import { registerBytes } from '../nftables/keys.ts'
import type { Change } from '../nftables/transaction.ts'
import type { SyncResult } from '../proxy/dataplane.ts'
import { countChanges } from '../proxy-nftables/nftables-changes.ts'
import { drainingKey } from './ipvs-draining.ts'
import type { IpvsParts } from './ipvs-parts.ts'
import type { WantedVirtual } from './ipvs-servers.ts'
import { ipvsSets, ipvsTable } from './ipvs-table.ts'
import type { IpvsWanted } from './ipvs-wanted.ts'

/** What the kernel holds of mode ipvs, and of others in IPVS. */
export interface Held {
  readonly virtuals: ReadonlyMap<VirtualKey, VirtualServerState>
  readonly table: ReadTable | undefined
  readonly vips: ReadonlySet<IpAddress>
  /** What is exactly as it was programmed: the same object needs no comparison. Undefined: the kernel was read. */
  readonly settled?: ReadonlyMap<VirtualKey, WantedVirtual>
}

/** What a sync has to do. */
export interface IpvsChanges {
  readonly servers: ReturnType<typeof diffServers>
  /** Before the servers. */
  readonly rules: readonly Change[]
  /** After them: names of frontends and marks say which virtual servers are ours, so they go last. */
  readonly late: readonly Change[]
  readonly addVips: readonly IpAddress[]
  readonly removeVips: readonly IpAddress[]
}

/** What leads from what the kernel holds to what is wanted. Pure. `counted`: connections were just counted; else everybody may have some. */
export function compareHeld(held: Held, wanted: IpvsWanted, { counted }: { readonly counted: boolean }): IpvsChanges {
  const isSettled = (key: VirtualKey): boolean => {
    const before = held.settled?.get(key)
    return before !== undefined && before === wanted.virtuals.get(key)
  }
  const servers = diffServers(
    [...held.virtuals].flatMap(([key, virtual]) => (isSettled(key) ? [] : [virtual])),
    [...wanted.virtuals].flatMap(([key, { server }]) => (isSettled(key) ? [] : [server])),
    {
      // dh has one real server for all clients of an address, and no other one while that drains: all would be refused.
      drains: (real, { at, scheduler }) =>
        wanted.virtuals.get(virtualKey(at))?.protocol !== 'udp' &&
        scheduler !== 'dh' &&
        (!counted || hasConnections(real)),
      isForeign: isForeignTo(held),
    },
  )
  const changes = diffTable(held.table, wanted.table)
  const isLate = (change: Change): boolean => change.op === 'delete-elements' && ownershipSets.has(change.set.name)
  return {
    servers,
    rules: changes.filter((change) => !isLate(change)),
    late: changes.filter(isLate),
    addVips: [...wanted.vips].filter((ip) => !held.vips.has(ip)),
    removeVips: [...held.vips].filter((ip) => !wanted.vips.has(ip)),
  }
}

const ownershipSets: ReadonlySet<string> = new Set(
  [ipvsSets[4], ipvsSets[6]].flatMap(({ frontends, marks }) => [frontends.name, marks.name]),
)

/** Tells virtual servers that our table names from those of other programs, which stay as they are. */
export function isOurs(table: ReadTable | undefined): (virtual: Pick<VirtualServerState, 'at'>) => boolean {
  const sets = [ipvsSets[4], ipvsSets[6]]
  const elements = (name: string) => table?.elements.get(name) ?? new Map<string, string>()
  const marks = new Set(sets.flatMap((each) => [...elements(each.marks.name).values()]))
  return ({ at }) => {
    if ('mark' in at) return marks.has(registerBytes({ number: at.mark }))
    const key = registerBytes({ ip: at.ip }, { protocol: at.protocol }, { port: at.port })
    return sets.some(({ frontends }) => elements(frontends.name).has(key))
  }
}

function isForeignTo({ table }: Held): (virtual: Pick<VirtualServerState, 'at'>) => boolean {
  const ours = isOurs(table)
  return (virtual) => !ours(virtual)
}

/**
 * Brings changes to the kernel. Addresses go first and come last: while one is here, its virtual servers and rules are, too. For a
 * port that comes to, or goes from, an address that stays, the chain `unserved` does the same. Second views come before the rules
 * that lead to them.
 */
export async function applyChanges(
  { nft, ipvs, device }: IpvsParts,
  { servers, rules, late, addVips, removeVips }: IpvsChanges,
): Promise<Pick<SyncResult, 'bytes' | 'messages' | 'kernelMs' | 'rules' | 'elements'>> {
  const counts = countChanges([...rules, ...late])
  const cost = { bytes: 0, messages: 0, kernelMs: 0, rules: counts.rules, elements: 0 }
  const write = async (part: readonly Change[]): Promise<void> => {
    if (part.length === 0) return
    const { bytes, messages, kernelMs, elements } = await nft.run({ family: 'inet', table: ipvsTable, changes: part })
    cost.bytes += bytes
    cost.messages += messages
    cost.kernelMs += kernelMs
    cost.elements += elements
  }
  const command = async (part: readonly Command[]): Promise<void> => {
    const start = performance.now()
    const { bytes, messages, commands } = await ipvs.run(part)
    cost.kernelMs += performance.now() - start
    cost.bytes += bytes
    cost.messages += messages
    cost.elements += commands
  }
  const early = servers.commands.filter(makesSecondView)
  if (removeVips.length > 0) await device.change({ add: [], remove: removeVips })
  await command(early)
  await write(rules)
  await command(early.length === 0 ? servers.commands : servers.commands.filter((one) => !makesSecondView(one)))
  await write(late)
  if (addVips.length > 0) await device.change({ add: addVips, remove: [] })
  cost.elements += addVips.length + removeVips.length
  return cost
}

function makesSecondView(command: Command): boolean {
  if (command.op === 'add-virtual') return 'mark' in command.virtual.at
  return command.op === 'add-real' && 'mark' in command.at
}

const noTraffic = { connections: 0n, packetsIn: 0n, packetsOut: 0n, bytesIn: 0n, bytesOut: 0n }
const uncounted = { active: 0, inactive: 0, persistent: 0 }

/** What the kernel holds once the changes are in it. Pure. */
export function heldAfter(held: Held, wanted: IpvsWanted, { servers }: IpvsChanges): Held {
  const draining = Map.groupBy(servers.draining, ({ virtual }) => virtualKey(virtual.at))
  const virtuals = new Map<VirtualKey, VirtualServerState>()
  const settled = new Map<VirtualKey, WantedVirtual>()
  for (const [key, one] of wanted.virtuals) {
    const leaving = draining.get(key)
    const before = held.virtuals.get(key)
    if (!leaving) settled.set(key, one)
    if (!leaving && before && held.settled?.get(key) === one) {
      virtuals.set(key, before)
      continue
    }
    const stay = (leaving ?? []).map(({ real }) => ({ ...real, weight: 0 }))
    const reals = one.server.reals.map((real) => ({ ...real, counts: uncounted, traffic: noTraffic }))
    virtuals.set(key, { ...one.server, reals: [...reals, ...stay], traffic: noTraffic })
  }
  const isForeign = isForeignTo(held)
  for (const [key, virtual] of held.virtuals) {
    if (!wanted.virtuals.has(key) && isForeign(virtual)) virtuals.set(key, virtual)
  }
  const table = withFingerprint(wanted.table)
  const ruleCounts = new Map(table.chains.map(({ name, rules }) => [name, rules.length]))
  return { virtuals, table: { ...table, ruleCounts }, vips: wanted.vips, settled }
}

/** Without real servers that are gone, by {@link drainingKey}. Pure. */
export function withoutReals(held: Held, gone: ReadonlySet<string>): Held {
  const virtuals = new Map(held.virtuals)
  for (const [key, virtual] of held.virtuals) {
    const reals = virtual.reals.filter((real) => !gone.has(drainingKey({ virtual, real })))
    if (reals.length < virtual.reals.length) virtuals.set(key, { ...virtual, reals })
  }
  return { ...held, virtuals }
}

/** Virtual servers by their names. */
export function byKey(virtuals: readonly VirtualServerState[]): ReadonlyMap<VirtualKey, VirtualServerState> {
  return new Map(virtuals.map((virtual) => [virtualKey(virtual.at), virtual]))
}
