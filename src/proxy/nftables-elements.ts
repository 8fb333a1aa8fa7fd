import { ipFromBytes, type IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { registerBytes } from '../nftables/keys.ts'
import type { Elements, RegisterBytes } from '../nftables/objects.ts'
import type { Frontend, ServiceFrontends, Verdict } from './frontends.ts'
import { classNumber, sets, type ClassKind, type FrontendClass, type SetRole } from './nftables-layout.ts'
import type { ServiceEndpoint } from './select-endpoints.ts'
import type { Slots } from './slots.ts'

/** Where the elements of one frontend go. Called once per element. */
export type ElementSink = (set: string, key: RegisterBytes, data: string) => void

/** Elements that several Services may need: the element is there as long as one of them does. By the address alone. */
export const sharedRoles = ['clusterIps', 'hairpin'] as const

/** See {@link sharedRoles}. */
export type SharedRole = (typeof sharedRoles)[number]

/** Hands the elements that belong to one frontend alone to `sink`, and its classes to `onClass`. */
export function frontendElements(
  frontend: Frontend,
  sink: ElementSink | undefined,
  onClass: (of: FrontendClass) => void,
): void {
  const key = frontendKeyBytes(frontend)
  const atNode = frontend.kind === 'node-port'
  const { verdict, family } = frontend
  // Only a balanced verdict has two views: when nothing is usable anywhere, both say `reject`.
  const outside = verdict.kind === 'balance' ? frontend.outside : undefined
  const put = (verdict: Verdict, kind: ClassKind, frontends: SetRole, endpoints: SetRole): void => {
    const of: FrontendClass =
      verdict.kind === 'balance' ? { kind, family, endpoints: verdict.slots.length } : { kind: verdict.kind }
    onClass(of)
    if (!sink) return
    sink(sets[family][frontends].name, key, classBytes(of))
    if (verdict.kind === 'balance') slotElements(key, verdict.slots, sets[family][endpoints].name, sink)
  }
  const kind = classKindOf(frontend)
  if (atNode) {
    put(verdict, kind, 'nodePorts', 'nodePortEndpoints')
    if (outside) put(outside, 'node-port-local', 'localNodePorts', 'localNodePortEndpoints')
  } else {
    put(verdict, kind, 'frontends', 'endpoints')
    if (outside) put(outside, 'local', 'localFrontends', 'localEndpoints')
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
export function frontendKeyBytes(frontend: Frontend): RegisterBytes {
  const where = [{ protocol: frontend.protocol }, { port: frontend.port }] as const
  return frontend.kind === 'node-port' ? registerBytes(...where) : registerBytes({ ip: frontend.ip }, ...where)
}

/** Which set role holds the slots of a frontend's two views. */
export function slotRole(frontend: Frontend, which: 'verdict' | 'outside'): SetRole {
  if (frontend.kind === 'node-port') return which === 'verdict' ? 'nodePortEndpoints' : 'localNodePortEndpoints'
  return which === 'verdict' ? 'endpoints' : 'localEndpoints'
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

/** The slots of one view of a frontend, as `elements` of its map have them; undefined when there are none. */
export function readSlots(frontend: Frontend, elements: Elements): Slots | undefined {
  const key = frontendKeyBytes(frontend)
  const slots: ServiceEndpoint[] = []
  for (let number = 0; ; number++) {
    const data = elements.get(key + registerBytes({ number }))
    if (data === undefined) return slots.length > 0 ? slots : undefined
    const bytes = Buffer.from(data, 'latin1')
    const length = frontend.family === 4 ? 4 : 16
    slots.push({ ip: ipFromBytes(bytes.subarray(0, length)), port: bytes.readUInt16BE(length) as Port })
  }
}

function slotElements(key: RegisterBytes, slots: Slots, set: string, sink: ElementSink): void {
  for (const [number, slot] of slots.entries()) {
    sink(set, key + registerBytes({ number }), registerBytes({ ip: slot.ip }, { port: slot.port }))
  }
}

function classBytes(of: FrontendClass): RegisterBytes {
  return registerBytes({ number: classNumber(of) })
}
