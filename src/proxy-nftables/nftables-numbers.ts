import type { IpFamily } from '../net/ip-address.ts'
import type { Algorithm } from '../proxy/frontends.ts'

/*
 * The numbers that stand in `meta priority` between two rules. All have their two highest bits set: no queueing discipline
 * gets such a handle by itself (tc counts up from 0x8000), and one rule in postrouting knows them and takes them away.
 *
 *   c000:0 - dfff:ffff   a member: 18 bits for the group of session affinity, 11 for the endpoint in it
 *   e000:0 - e03f:ffff   a class with session affinity: kind, family, timeout
 *   f0e0:N               slot N
 *   f0ff:0, f0ff:1       questions to a frontend: which group? which draw?
 *   f1a0:N - f3af:N      a class that draws from N slots: algorithm, kind, family
 *   f1bf:0, f1bf:1       refuse, discard
 */

/**
 * What a class of frontends does.
 * - `vip`: a cluster IP; `external`: an address for clients outside, policy Cluster; `node-port`: the same at a port
 *   of the node;
 * - `short-circuit`, `node-port-short-circuit`: policy Local, seen from outside the node: pods get the cluster's
 *   endpoints, everybody else is looked up again among the local frontends;
 * - `local`, `node-port-local`: what the second lookup finds;
 * - `draw`: the draw alone, for session affinity.
 */
export const classKinds = [
  'vip',
  'external',
  'node-port',
  'short-circuit',
  'node-port-short-circuit',
  'local',
  'node-port-local',
  'draw',
] as const

/** See {@link classKinds}. */
export type ClassKind = (typeof classKinds)[number]

/** How a new connection of the class finds its slot: one of so many, or as the client did before. */
export type Choice = DrawChoice | AffinityChoice

/** See {@link Choice}. */
export interface DrawChoice {
  readonly algorithm: Algorithm
  readonly slots: number
}

/** See {@link Choice}. */
export interface AffinityChoice {
  readonly affinitySeconds: number
}

/** One class: all frontends that are treated alike. */
export type FrontendClass =
  | { readonly kind: ClassKind; readonly family: IpFamily; readonly choice: Choice }
  | { readonly kind: 'reject' }
  | { readonly kind: 'drop' }

/** All numbers of ours have these bits. */
export const ourNumbers = 0xc000_0000

/** The bits of a member that tell its group. */
export const groupMask = 0xffff_f800

/** Slots of one frontend at most: what is beyond gets no connections. */
export const maxSlots = 0xffff

/** Groups at most; Services beyond have no session affinity. */
export const maxGroups = 2 ** 18

/** Endpoints of one group at most; those beyond get no connections. */
export const maxMembers = 2 ** 11 - 1

/** Where slots begin. */
export const firstSlot = 0xf0e0_0000

/** "Which group of session affinity has this frontend?", to the map `next`. */
export const groupQuestion = 0xf0ff_0000

/** "How is a slot of this frontend drawn?", to the map `next`. */
export const drawQuestion = 0xf0ff_0001

const rejectClass = 0xf1bf_0000
const dropClass = 0xf1bf_0001
const firstDrawClass = 0xf1a0
const firstAffinityClass = 0xe000_0000
const affinityTimes = 2 ** 17
/** All {@link Algorithm}s. */
export const algorithms = ['random', 'maglev', 'round-robin'] as const satisfies readonly Algorithm[]

/** The number of an endpoint (1 to {@link maxMembers}; 0: of none) in a group (0 to {@link maxGroups} - 1). */
export function memberNumber(group: number, member: number): number {
  return ourNumbers + group * 2048 + member
}

/** Group and endpoint of a {@link memberNumber}. */
export function memberFromNumber(number: number): { readonly group: number; readonly member: number } {
  const within = number - ourNumbers
  return { group: Math.floor(within / 2048), member: within % 2048 }
}

/** The number that stands for a class in the frontends' maps. */
export function classNumber(of: FrontendClass): number {
  if (of.kind === 'reject') return rejectClass
  if (of.kind === 'drop') return dropClass
  const kind = classKinds.indexOf(of.kind) * 2 + (of.family === 6 ? 1 : 0)
  if ('affinitySeconds' in of.choice) return firstAffinityClass + kind * affinityTimes + of.choice.affinitySeconds
  const major = firstDrawClass + algorithms.indexOf(of.choice.algorithm) * 0x100 + kind
  return major * 0x1_0000 + of.choice.slots
}

/** The class that a number means; undefined for a number that is none. */
export function classFromNumber(number: number): FrontendClass | undefined {
  if (number === rejectClass) return { kind: 'reject' }
  if (number === dropClass) return { kind: 'drop' }
  const major = Math.floor(number / 0x1_0000) - firstDrawClass
  const algorithm = algorithms[Math.floor(major / 0x100)]
  if (major >= 0 && algorithm !== undefined) {
    const slots = number % 0x1_0000
    return slots > 0 ? classOf(major % 0x100, { algorithm, slots }) : undefined
  }
  const within = number - firstAffinityClass
  const affinitySeconds = within % affinityTimes
  return within >= 0 && affinitySeconds > 0
    ? classOf(Math.floor(within / affinityTimes), { affinitySeconds })
    : undefined
}

function classOf(index: number, choice: Choice): FrontendClass | undefined {
  const kind = classKinds[index >> 1]
  return kind && { kind, family: index & 1 ? 6 : 4, choice }
}
