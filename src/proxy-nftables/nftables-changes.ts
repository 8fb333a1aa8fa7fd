import { SharedMap } from '../base/shared-map.ts'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import type { Chain, Elements, NftSet, RegisterBytes } from '../nftables/objects.ts'
import type { Change } from '../nftables/transaction.ts'
import type { AffinityNumbers } from './affinity-numbers.ts'
import type { CompiledServices, ProxySettings } from '../proxy/compile-services.ts'
import type { ServiceFrontends } from '../proxy/frontends.ts'
import { classChains, classElement } from './nftables-classes.ts'
import { frontendElements, sharedElements, sharedKey, sharedRoles, type SharedRole } from './nftables-elements.ts'
import { staticElements } from './nftables-layout.ts'
import { classFromNumber, classNumber } from './nftables-numbers.ts'
import { allSets, classMaps, origins, sets } from './nftables-sets.ts'
import { standingClasses } from './nftables-table.ts'

/**
 * What is remembered of our table between syncs. No elements, of which there may be millions: those of a Service are
 * computed again from its frontends, and only what Services share is counted.
 */
export interface ProgrammedTable {
  readonly services: CompiledServices
  /** How many frontends there are of each class, by class number. A class has its chains as long as there is one. */
  readonly classes: Map<number, number>
  /** How many Services need an address in a shared set. */
  readonly shared: Readonly<Record<SharedRole, Map<IpAddress, number>>>
  /** What the kernel remembers clients by. */
  readonly numbers: AffinityNumbers
}

/** Elements by set name. */
type ElementsBySet = Map<string, Map<RegisterBytes, string>>

/** What to remember of a table that was just written in full. */
export function programmedBy(services: CompiledServices, numbers: AffinityNumbers): ProgrammedTable {
  const shared = { clusterIps: new Map<IpAddress, number>(), hairpin: new Map<IpAddress, number>() }
  const classes = new Map<number, number>()
  for (const service of services.services.values()) {
    sharedElements(service, (role, ip) => count(shared[role], ip, 1))
    for (const frontend of service.frontends) {
      frontendElements(frontend, numbers, { class: (of) => count(classes, classNumber(of), 1) })
    }
  }
  return { services, classes, shared, numbers }
}

/**
 * The changes that lead from a programmed table to `services`, whose settings are the same: elements of changed Services
 * only. Elements are deleted before any is added, so an address may move from one Service to another in one transaction.
 * The result is the table that `compileTable` describes. Call `after` once the changes are in the kernel: `programmed`
 * itself is used up by it.
 */
export function changeTable(
  programmed: ProgrammedTable,
  services: CompiledServices,
): { readonly changes: readonly Change[]; readonly servicesChanged: number; readonly after: () => ProgrammedTable } {
  const keys = SharedMap.changedKeys(programmed.services.services, services.services)
  const { numbers } = programmed
  for (const key of keys) {
    const service = services.services.get(key)
    if (service) numbers.claim(service)
  }
  const before = collect(keys, programmed.services, numbers)
  const wanted = collect(keys, services, numbers)
  if (programmed.services.serviceCIDRs !== services.serviceCIDRs) {
    addElements(before.elements, staticElements(programmed.services))
    addElements(wanted.elements, staticElements(services))
  }
  const shared = sharedChanges(programmed.shared, before.services, wanted.services)
  const classes = new Map<number, number>()
  for (const number of before.classes) count(classes, number, -1)
  for (const number of wanted.classes) count(classes, number, 1)
  const chains = classChanges(programmed.classes, classes, services.settings)
  const changes = [
    ...chains.first,
    ...elementChanges('delete-elements', subtract(before.elements, wanted.elements), shared.gone),
    ...elementChanges('add-elements', subtract(wanted.elements, before.elements), shared.come),
    ...chains.last,
  ]
  const after = (): ProgrammedTable => {
    for (const [number, by] of classes) count(programmed.classes, number, by)
    shared.commit()
    for (const key of keys) numbers.release(programmed.services.services.get(key), services.services.get(key))
    return { ...programmed, services }
  }
  return { changes, servicesChanged: keys.size, after }
}

/** Elements (added or deleted) and rules (added) in a list of changes. */
export function countChanges(changes: readonly Change[]): { readonly elements: number; readonly rules: number } {
  let elements = 0
  let rules = 0
  for (const change of changes) {
    if (change.op === 'add-rule') rules++
    else if (change.op === 'add-elements' || change.op === 'delete-elements') elements += change.elements.size
  }
  return { elements, rules }
}

function collect(keys: ReadonlySet<string>, from: CompiledServices, numbers: AffinityNumbers) {
  const elements: ElementsBySet = new Map()
  /** One entry per use. */
  const classes: number[] = []
  const services: ServiceFrontends[] = []
  for (const key of keys) {
    const service = from.services.get(key)
    if (!service) continue
    services.push(service)
    for (const frontend of service.frontends) {
      frontendElements(frontend, numbers, {
        element: (set, key, data) => elementsOf(elements, set).set(key, data),
        class: (of) => classes.push(classNumber(of)),
      })
    }
  }
  return { elements, classes, services }
}

/** Those of `these` that `others` lacks or has with other data. */
function subtract(these: ElementsBySet, others: ElementsBySet): ElementsBySet {
  const rest: ElementsBySet = new Map()
  for (const [set, elements] of these) {
    const same = others.get(set)
    for (const [key, data] of elements) if (same?.get(key) !== data) elementsOf(rest, set).set(key, data)
  }
  return rest
}

const setsByName: ReadonlyMap<string, NftSet> = new Map(allSets().map((set) => [set.name, set]))

function elementChanges(op: 'add-elements' | 'delete-elements', ...groups: readonly ElementsBySet[]): Change[] {
  const changes: Change[] = []
  for (const group of groups) {
    for (const [name, elements] of group) {
      const set = setsByName.get(name)
      if (set) changes.push({ op, set, elements })
    }
  }
  return changes
}

/** Elements of shared sets that a first Service needs now, or that no Service needs any more. */
function sharedChanges(
  counts: ProgrammedTable['shared'],
  before: readonly ServiceFrontends[],
  after: readonly ServiceFrontends[],
): { readonly gone: ElementsBySet; readonly come: ElementsBySet; readonly commit: () => void } {
  const moves = { clusterIps: new Map<IpAddress, number>(), hairpin: new Map<IpAddress, number>() }
  const move = (services: readonly ServiceFrontends[], by: number): void => {
    for (const service of services) {
      sharedElements(service, (role, ip) => count(moves[role], ip, by))
    }
  }
  move(before, -1)
  move(after, 1)
  const gone: ElementsBySet = new Map()
  const come: ElementsBySet = new Map()
  for (const role of sharedRoles) {
    for (const [ip, by] of moves[role]) {
      const now = counts[role].get(ip) ?? 0
      const target = now === 0 && by > 0 ? come : now > 0 && now + by === 0 ? gone : undefined
      if (target) elementsOf(target, sets[ipFamilyOf(ip)][role].name).set(sharedKey(role, ip), '')
    }
  }
  const commit = (): void => {
    for (const role of sharedRoles) for (const [ip, by] of moves[role]) count(counts[role], ip, by)
  }
  return { gone, come, commit }
}

const standing: ReadonlySet<number> = new Set(standingClasses.map(classNumber))

/** Chains and class map elements of classes that come into use (`first`), and chains of those that go out of use (`last`). */
function classChanges(
  programmed: ReadonlyMap<number, number>,
  moves: ReadonlyMap<number, number>,
  settings: ProxySettings,
): { readonly first: readonly Change[]; readonly last: readonly Change[] } {
  const come: number[] = []
  const gone: number[] = []
  for (const [number, by] of moves) {
    if (standing.has(number)) continue
    const now = programmed.get(number) ?? 0
    if (now === 0 && by > 0) come.push(number)
    else if (now > 0 && now + by === 0) gone.push(number)
  }
  if (come.length === 0 && gone.length === 0) return { first: [], last: [] }
  const numbers = new Set([...programmed.keys(), ...come]).difference(new Set(gone))
  const old = chainsOf(settings, programmed.keys())
  const wanted = chainsOf(settings, numbers)
  const added = [...wanted.values()].filter((chain) => !old.has(chain.name))
  const removed = [...old.keys()].filter((name) => !wanted.has(name))
  return {
    first: [
      ...added.map(({ name }): Change => ({ op: 'add-chain', chain: { name } })),
      ...added.flatMap(({ name, rules }) => rules.map((rule): Change => ({ op: 'add-rule', chain: name, rule }))),
      ...classMapChanges('delete-elements', gone),
      ...classMapChanges('add-elements', come),
    ],
    // Those that go may lead to each other.
    last: [
      ...removed.map((chain): Change => ({ op: 'flush-chain', chain })),
      ...removed.map((chain): Change => ({ op: 'delete-chain', chain })),
    ],
  }
}

function chainsOf(settings: ProxySettings, classes: Iterable<number>): ReadonlyMap<string, Chain> {
  const chains = new Map<string, Chain>()
  for (const number of classes) {
    const of = classFromNumber(number)
    if (of) for (const chain of classChains(of, settings)) chains.set(chain.name, chain)
  }
  return chains
}

function classMapChanges(op: 'add-elements' | 'delete-elements', numbers: readonly number[]): Change[] {
  return origins.flatMap((origin): Change[] => {
    const elements = numbers.flatMap((number) => {
      const of = classFromNumber(number)
      const element = of && classElement(of, origin)
      return element ? [element] : []
    })
    return elements.length > 0 ? [{ op, set: classMaps[origin], elements: new Map(elements) }] : []
  })
}

/** Adds to a count; what comes to nothing is removed. */
function count<K>(counts: Map<K, number>, key: K, by: number): void {
  const now = (counts.get(key) ?? 0) + by
  if (now === 0) counts.delete(key)
  else counts.set(key, now)
}

function addElements(to: ElementsBySet, from: ReadonlyMap<string, Elements>): void {
  for (const [set, elements] of from) for (const [key, data] of elements) elementsOf(to, set).set(key, data)
}

function elementsOf(group: ElementsBySet, set: string): Map<RegisterBytes, string> {
  let elements = group.get(set)
  if (!elements) group.set(set, (elements = new Map()))
  return elements
}
