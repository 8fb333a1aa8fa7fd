import {
  realKey,
  virtualFamily,
  virtualKey,
  type Command,
  type RealServer,
  type RealServerState,
  type VirtualServer,
  type VirtualServerState,
  type VirtualServerWithReals,
} from './objects.ts'

/** A real server that is not wanted any more and still has connections. */
export interface DrainingReal {
  readonly virtual: VirtualServer
  readonly real: RealServerState
}

/** How to get from what the kernel has to what is wanted. */
export interface ServerChanges {
  /** To be run in this order: what is new comes before what goes, so that there is always somebody to serve. */
  readonly commands: readonly Command[]
  /** Real servers that are to stay until their connections end; their weight is 0, or `commands` makes it so. */
  readonly draining: readonly DrainingReal[]
}

/** What decides how servers go. */
export interface DiffOptions {
  /** Whether a real server that is not wanted stays until its connections end. @default those with connections do */
  readonly drains?: (real: RealServerState, of: VirtualServer) => boolean
  /** Virtual servers that are not ours, and stay as they are. @default none */
  readonly isForeign?: (virtual: VirtualServer) => boolean
}

/**
 * The commands that lead from `current` to `wanted`. Pure. New real servers come first, then weights change, then others go: with
 * weight 0 while they have connections (a virtual server that is not wanted goes at once, with all of its connections).
 */
export function diffServers(
  current: readonly VirtualServerState[],
  wanted: readonly VirtualServerWithReals[],
  { drains = hasConnections, isForeign = () => false }: DiffOptions = {},
): ServerChanges {
  const known = new Map(current.map((virtual) => [virtualKey(virtual.at), virtual]))
  const adds: Command[] = []
  const sets: Command[] = []
  const deletes: Command[] = []
  const draining: DrainingReal[] = []
  for (const virtual of wanted) {
    const key = virtualKey(virtual.at)
    const was = known.get(key)
    known.delete(key)
    const { at } = virtual
    if (!was) adds.push({ op: 'add-virtual', virtual: bare(virtual) })
    else if (!isSameVirtual(was, virtual)) sets.push({ op: 'set-virtual', virtual: bare(virtual) })
    const had = new Map(was?.reals.map((real) => [realKey(real), real]))
    for (const real of virtual.reals) {
      const before = had.get(realKey(real))
      had.delete(realKey(real))
      if (!before) adds.push({ op: 'add-real', at, real })
      else if (!isSameReal(before, real)) sets.push({ op: 'set-real', at, real })
    }
    for (const real of had.values()) {
      if (!drains(real, virtual)) {
        deletes.push({ op: 'delete-real', at, real: { ip: real.ip, port: real.port } })
        continue
      }
      if (real.weight !== 0) sets.push({ op: 'set-real', at, real: quiesced(real) })
      draining.push({ virtual: bare(virtual), real })
    }
  }
  for (const virtual of known.values()) {
    if (!isForeign(virtual)) deletes.push({ op: 'delete-virtual', at: virtual.at })
  }
  return { commands: [...adds, ...sets, ...deletes], draining }
}

/** Whether connections would end with the real server. Clients that persistence remembers are none: they find another one. */
export function hasConnections({ counts }: RealServerState): boolean {
  return counts.active + counts.inactive > 0
}

/** The real server as a wish, taking no new connections. */
export function quiesced(real: RealServer): RealServer {
  const { ip, port, forwarding, upperThreshold, lowerThreshold } = real
  return {
    ip,
    port,
    weight: 0,
    ...(forwarding && { forwarding }),
    ...(upperThreshold !== undefined && { upperThreshold }),
    ...(lowerThreshold !== undefined && { lowerThreshold }),
  }
}

/** Whether two virtual servers choose alike. Pure. */
export function isSameVirtual(a: VirtualServer, b: VirtualServer): boolean {
  const bits = virtualFamily(a.at) === 4 ? 32 : 128
  return (
    a.scheduler === b.scheduler &&
    a.persistence?.seconds === b.persistence?.seconds &&
    (a.persistence?.prefix ?? bits) === (b.persistence?.prefix ?? bits) &&
    (a.fallback ?? false) === (b.fallback ?? false) &&
    (a.hashPort ?? false) === (b.hashPort ?? false) &&
    (a.onePacket ?? false) === (b.onePacket ?? false)
  )
}

/** Whether two real servers of the same address are wanted alike. Pure. */
export function isSameReal(a: RealServer, b: RealServer): boolean {
  return (
    a.weight === b.weight &&
    (a.forwarding ?? 'masquerade') === (b.forwarding ?? 'masquerade') &&
    (a.upperThreshold ?? 0) === (b.upperThreshold ?? 0) &&
    (a.lowerThreshold ?? 0) === (b.lowerThreshold ?? 0)
  )
}

function bare(virtual: VirtualServer & { readonly reals?: unknown; readonly traffic?: unknown }): VirtualServer {
  const { reals: _reals, traffic: _traffic, ...server } = virtual
  return server
}
