import { ipFromBytes, type IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { addressRange, registerBytes } from '../nftables/keys.ts'
import type { Elements, RegisterBytes } from '../nftables/objects.ts'
import type { AffinityNumbers, FoundMember } from './affinity-numbers.ts'
import type { Frontend, ServiceFrontends, Verdict } from '../proxy/frontends.ts'
import { widestNetworks } from './nftables-layout.ts'
import {
  classNumber,
  drawQuestion,
  firstSlot,
  groupQuestion,
  maxSlots,
  memberFromNumber,
  memberNumber,
  type ClassKind,
  type FrontendClass,
} from './nftables-numbers.ts'
import { sets, views, type View } from './nftables-sets.ts'
import type { ServiceEndpoint } from '../proxy/select-endpoints.ts'
import type { Slots } from '../proxy/slots.ts'

/** Where elements go. Called once per element, or more often with the same data. */
export type ElementSink = (set: string, key: RegisterBytes, data: string) => void

/** Elements that several Services may need: the element is there as long as one of them does. By the address alone. */
export const sharedRoles = ['clusterIps', 'hairpin'] as const

/** See {@link sharedRoles}. */
export type SharedRole = (typeof sharedRoles)[number]

/** Hands the elements that belong to one frontend alone to `sink`, and its classes to `onClass`. */
export function frontendElements(
  frontend: Frontend,
  numbers: AffinityNumbers,
  on: { readonly element?: ElementSink; readonly class: (of: FrontendClass) => void },
): void {
  const key = frontendKeyBytes(frontend)
  const { verdict, family } = frontend
  if (on.element) guardElements(frontend, key, on.element)
  // Only a balanced verdict has two views: when nothing is usable anywhere, both say `reject`.
  const outside = verdict.kind === 'balance' ? frontend.outside : undefined
  const put = (verdict: Verdict, kind: ClassKind, which: 'verdict' | 'outside'): void => {
    const view = viewOf(frontend, which)
    const affine = verdict.kind === 'balance' ? affineSlots(frontend, verdict.slots, numbers) : undefined
    const of = classOf(frontend, verdict, kind, affine !== undefined)
    on.class(of)
    if (affine) on.class(drawOf(frontend, affine.slots.length))
    if (!on.element) return
    const s = sets[family]
    on.element(s[views[view].frontends].name, key, numberBytes(classNumber(of)))
    const maps = { endpoints: s[views[view].endpoints].name, next: s[views[view].next].name }
    if (affine) affineElements(frontend, affine, { ...maps, key, sink: on.element })
    else if (verdict.kind === 'balance') {
      for (const [slot, endpoint] of cut(verdict.slots).entries()) {
        on.element(maps.endpoints, key + numberBytes(firstSlot + slot), endpointBytes(endpoint))
      }
    }
  }
  put(verdict, classKindOf(frontend), 'verdict')
  if (outside) put(outside, frontend.kind === 'node-port' ? 'node-port-local' : 'local', 'outside')
}

function classOf(frontend: Frontend, verdict: Verdict, kind: ClassKind, affine: boolean): FrontendClass {
  if (verdict.kind !== 'balance') return { kind: verdict.kind }
  const { family, algorithm, affinity } = frontend
  const choice =
    affinity && affine
      ? { affinitySeconds: affinity.timeoutSeconds }
      : { algorithm, slots: Math.min(verdict.slots.length, maxSlots) }
  return { kind, family, choice }
}

function drawOf({ family, algorithm }: Frontend, slots: number): FrontendClass {
  return { kind: 'draw', family, choice: { algorithm, slots } }
}

function cut(slots: Slots): Slots {
  return slots.length > maxSlots ? slots.slice(0, maxSlots) : slots
}

/** Slots as members of a group of session affinity. */
interface AffineSlots {
  readonly group: number
  readonly slots: readonly { readonly member: number; readonly endpoint: ServiceEndpoint }[]
}

/** Undefined without session affinity, and where there are no numbers left for it. */
function affineSlots({ affinity }: Frontend, slots: Slots, numbers: AffinityNumbers): AffineSlots | undefined {
  if (!affinity) return undefined
  const group = numbers.groupNumber(affinity)
  if (group === undefined) return undefined
  const members = cut(slots).flatMap((endpoint) => {
    const member = numbers.memberNumber(affinity, endpoint)
    return member === undefined ? [] : [{ member: memberNumber(group, member), endpoint }]
  })
  return members.length > 0 ? { group, slots: members } : undefined
}

/** Answers of the map `next`, as the chains of session affinity ask them (nftables-classes.ts). */
function affineElements(
  frontend: Frontend,
  { group, slots }: AffineSlots,
  to: { readonly key: RegisterBytes; readonly endpoints: string; readonly next: string; readonly sink: ElementSink },
): void {
  const { key, endpoints, next, sink } = to
  const answer = (from: number, number: number): void => sink(next, key + numberBytes(from), numberBytes(number))
  answer(groupQuestion, memberNumber(group, 0))
  answer(drawQuestion, classNumber(drawOf(frontend, slots.length)))
  for (const [slot, { member, endpoint }] of slots.entries()) {
    answer(firstSlot + slot, member)
    answer(member, member)
    sink(endpoints, key + numberBytes(member), endpointBytes(endpoint))
  }
}

function guardElements(frontend: Frontend, key: RegisterBytes, sink: ElementSink): void {
  const { sourceRanges, family } = frontend
  if (!sourceRanges) return
  const s = sets[family]
  const atNode = frontend.kind === 'node-port'
  sink((atNode ? s.guardedNodePorts : s.guarded).name, key, '')
  for (const [first, last] of widestNetworks(sourceRanges).map(addressRange)) {
    sink((atNode ? s.nodePortSourceRanges : s.sourceRanges).name, key + first, key + last)
  }
}

/** Calls `each` for every address that the Service needs in a shared set, once per role. */
export function sharedElements(service: ServiceFrontends, each: (role: SharedRole, ip: IpAddress) => void): void {
  const clusterIps = new Set<IpAddress>()
  const hairpin = new Set<IpAddress>()
  for (const frontend of service.frontends) {
    if (frontend.kind === 'cluster-ip') clusterIps.add(frontend.ip)
    for (const verdict of [frontend.verdict, frontend.outside]) {
      if (verdict?.kind === 'balance') for (const slot of verdict.slots) hairpin.add(slot.ip)
    }
  }
  for (const ip of clusterIps) each('clusterIps', ip)
  for (const ip of hairpin) each('hairpin', ip)
}

/** The key of an address in a shared set. */
export function sharedKey(role: SharedRole, ip: IpAddress): RegisterBytes {
  const bytes = registerBytes({ ip })
  return role === 'hairpin' ? bytes + bytes : bytes
}

/** A frontend as its maps are keyed: address . protocol . port, or protocol . port at the node. */
function frontendKeyBytes(frontend: Frontend): RegisterBytes {
  const where = [{ protocol: frontend.protocol }, { port: frontend.port }] as const
  return frontend.kind === 'node-port' ? registerBytes(...where) : registerBytes({ ip: frontend.ip }, ...where)
}

function viewOf(frontend: Frontend, which: 'verdict' | 'outside'): View {
  if (frontend.kind === 'node-port') return which === 'verdict' ? 'nodePort' : 'localNodePort'
  return which === 'verdict' ? 'cluster' : 'local'
}

function classKindOf(frontend: Frontend): ClassKind {
  const atNode = frontend.kind === 'node-port'
  switch (frontend.masquerade) {
    case 'unless-pod':
      return 'vip'
    case 'always':
      return atNode ? 'node-port' : 'external'
    case 'node-only':
      return atNode ? 'node-port-short-circuit' : 'short-circuit'
    default:
      return frontend.masquerade satisfies never
  }
}

/** The slots of one view of a frontend, as the table has them; undefined when there are none. */
export function readSlots(
  frontend: Frontend,
  which: 'verdict' | 'outside',
  table: ReadonlyMap<string, Elements>,
): Slots | undefined {
  return readSlotsAt(viewOf(frontend, which), frontend.family, { key: frontendKeyBytes(frontend), table })
}

/** The slots that a key of frontends has in one view of the table, with or without session affinity. */
export function readSlotsAt(
  view: View,
  family: Frontend['family'],
  { key, table }: { readonly key: RegisterBytes; readonly table: ReadonlyMap<string, Elements> },
): Slots | undefined {
  const [endpoints, next] = [views[view].endpoints, views[view].next].map((role) => table.get(sets[family][role].name))
  const slots: ServiceEndpoint[] = []
  for (let slot = firstSlot; ; slot++) {
    const number = numberBytes(slot)
    const data = endpoints?.get(key + (next?.get(key + number) ?? number))
    if (data === undefined) return slots.length > 0 ? slots : undefined
    slots.push(endpointFromBytes(data, family))
  }
}

/** What the table knows of the frontend's session affinity in one view, for {@link AffinityNumbers.adopt}. */
export function readAffinity(
  frontend: Frontend,
  which: 'verdict' | 'outside',
  table: ReadonlyMap<string, Elements>,
): { readonly group: number; readonly members: readonly FoundMember[] } | undefined {
  const view = viewOf(frontend, which)
  const { family } = frontend
  const key = frontendKeyBytes(frontend)
  const [endpoints, next] = [views[view].endpoints, views[view].next].map((role) => table.get(sets[family][role].name))
  const answer = next?.get(key + numberBytes(groupQuestion))
  if (answer === undefined) return undefined
  const { group } = memberFromNumber(numberFromBytes(answer))
  const members: FoundMember[] = []
  for (let slot = firstSlot; ; slot++) {
    const number = next?.get(key + numberBytes(slot))
    const data = number === undefined ? undefined : endpoints?.get(key + number)
    if (number === undefined || data === undefined) return { group, members }
    const { member } = memberFromNumber(numberFromBytes(number))
    members.push({ endpoint: endpointFromBytes(data, family), number: member })
  }
}

function endpointBytes({ ip, port }: ServiceEndpoint): RegisterBytes {
  return registerBytes({ ip }, { port })
}

function endpointFromBytes(data: RegisterBytes, family: Frontend['family']): ServiceEndpoint {
  const bytes = Buffer.from(data, 'latin1')
  const length = family === 4 ? 4 : 16
  return { ip: ipFromBytes(bytes.subarray(0, length)), port: bytes.readUInt16BE(length) as Port }
}

function numberBytes(number: number): RegisterBytes {
  return registerBytes({ number })
}

function numberFromBytes(bytes: RegisterBytes): number {
  return Buffer.from(bytes, 'latin1').readUInt32LE()
}
