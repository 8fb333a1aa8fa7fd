import { ipFamilyOf } from '../net/ip-address.ts'
import type { Chain, Elements, RegisterBytes, TableState } from '../nftables/objects.ts'
import type { CompiledServices, ProxySettings } from './compile-services.ts'
import { frontendElements, sharedElements, sharedKey } from './nftables-elements.ts'
import {
  allSets,
  classChains,
  classElement,
  classFromNumber,
  classMaps,
  classNumber,
  origins,
  servicesTable,
  sets,
  standingClasses,
  staticChains,
  staticElements,
  type FrontendClass,
} from './nftables-layout.ts'

/** The whole table for all Services: what a full sync compares the kernel with. Pure. */
export function compileTable(services: CompiledServices): TableState {
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
    for (const frontend of service.frontends) frontendElements(frontend, put, use)
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
    elements: new Map<string, Elements>([...elements, ...staticElements(services.settings)]),
  }
}

/** The table without elements: sets, static chains, and chains of the standing classes and of those in use (by number). */
export function compileLayout(settings: ProxySettings, classes: Iterable<number>): TableState {
  const chains = new Map<string, Chain>()
  const numbers = new Set([...standingClasses.map(classNumber), ...classes])
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const of = classFromNumber(number)
    if (of) for (const chain of classChains(of)) chains.set(chain.name, chain)
  }
  return {
    family: 'inet',
    name: servicesTable,
    chains: [...staticChains(settings), ...chains.values()],
    sets: allSets(),
    elements: new Map(),
  }
}
