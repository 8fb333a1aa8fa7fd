import { ipFamilies, ipFamilyOf } from '../net/ip-address.ts'
import type { Chain, Elements, RegisterBytes, TableState } from '../nftables/objects.ts'
import { affineFrontends, AffinityNumbers } from './affinity-numbers.ts'
import type { CompiledServices, ProxySettings } from '../proxy/compile-services.ts'
import { classChains, classElement } from './nftables-classes.ts'
import { frontendElements, readAffinity, sharedElements, sharedKey } from './nftables-elements.ts'
import { staticChains, staticElements } from './nftables-layout.ts'
import { algorithms, classFromNumber, classKinds, classNumber, type FrontendClass } from './nftables-numbers.ts'
import { allSets, classMaps, origins, servicesTable, sets } from './nftables-sets.ts'

/** The whole table for all Services: what a full sync compares the kernel with. Pure. `numbers` has claimed all that they need. */
export function compileTable(
  services: CompiledServices,
  numbers: AffinityNumbers = claimNumbers(new AffinityNumbers(), services, undefined),
): TableState {
  const elements = new Map<string, Map<RegisterBytes, string>>(allSets().map((set) => [set.name, new Map()]))
  const put = (set: string, key: RegisterBytes, data: string): void => {
    elements.get(set)?.set(key, data)
  }
  const classes = new Map<number, FrontendClass>()
  const use = (of: FrontendClass): void => {
    classes.set(classNumber(of), of)
  }
  for (const of of standingClasses) use(of)
  for (const service of services.services.values()) {
    for (const frontend of service.frontends) frontendElements(frontend, numbers, { element: put, class: use })
    sharedElements(service, (role, ip) => put(sets[ipFamilyOf(ip)][role].name, sharedKey(role, ip), ''))
  }
  for (const of of classes.values()) {
    for (const origin of origins) {
      const element = classElement(of, origin)
      if (element) put(classMaps[origin].name, ...element)
    }
  }
  return {
    ...compileLayout(services.settings, classes.keys()),
    elements: new Map<string, Elements>([...elements, ...staticElements(services)]),
  }
}

/** The classes that are in the table whether or not a frontend has them. */
export const standingClasses: readonly FrontendClass[] = [{ kind: 'reject' }, { kind: 'drop' }]

/** The table without elements: sets, static chains, and chains of the standing classes and of those in use (by number). */
export function compileLayout(settings: ProxySettings, classes: Iterable<number>): TableState {
  const chains = new Map<string, Chain>()
  const numbers = new Set([...standingClasses.map(classNumber), ...classes])
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const of = classFromNumber(number)
    if (of) for (const chain of classChains(of, settings)) chains.set(chain.name, chain)
  }
  return {
    family: 'inet',
    name: servicesTable,
    chains: [...staticChains(settings), ...chains.values()],
    sets: allSets(),
    elements: new Map(),
    rulesKnownBy: describeLayout(settings),
  }
}

/**
 * All that decides about rules: the static ones, and how those of classes are made. Not which classes there are: each has
 * chains of its own names, and one more need not make a restarted daemon write all rules anew.
 */
function describeLayout(settings: ProxySettings): string {
  const examples = classKinds.flatMap((kind) =>
    ipFamilies.flatMap((family) =>
      [{ affinitySeconds: 1 }, ...algorithms.map((algorithm) => ({ algorithm, slots: 1 }))].map(
        (choice): FrontendClass => ({ kind, family, choice }),
      ),
    ),
  )
  const chains = new Map(examples.flatMap((of) => classChains(of, settings)).map((chain) => [chain.name, chain]))
  return JSON.stringify([staticChains(settings), ...chains.values(), allSets()])
}

/** Lets `numbers` learn what `table` holds of the Services, then gives numbers to the rest. */
export function claimNumbers(
  numbers: AffinityNumbers,
  services: CompiledServices,
  table: ReadonlyMap<string, Elements> | undefined,
): AffinityNumbers {
  if (table) {
    for (const service of services.services.values()) {
      for (const { frontend, affinity } of affineFrontends(service)) {
        for (const which of ['verdict', 'outside'] as const) {
          const found = readAffinity(frontend, which, table)
          if (found) numbers.adopt(affinity, found)
        }
      }
    }
  }
  for (const service of services.services.values()) numbers.claim(service)
  return numbers
}
