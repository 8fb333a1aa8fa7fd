import { SharedMap } from '../base/shared-map.ts'
import { type ChainRules, sameRules, type TableChanges, type WantedChains } from '../iptables/objects.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type { ServiceFrontends } from '../proxy/frontends.ts'
import { addServiceChains, dispatchRules, type DispatchRules, type RuleContext } from './iptables-service.ts'
import { contextOf, sharedChains, type IptablesFeatures, type SharedChains } from './iptables-tables.ts'

/**
 * What is remembered of the rules of one family between syncs: the shared chains, and what each Service has in them. The
 * chains of a Service are computed again from its frontends.
 */
export interface ProgrammedFamily {
  readonly services: CompiledServices
  readonly context: RuleContext
  readonly features: IptablesFeatures
  readonly shared: SharedChains
  readonly dispatch: WeakMap<ServiceFrontends, DispatchRules>
}

/** What to remember of rules that were just compared or written in full. */
export function programmedFamily(
  services: CompiledServices,
  context: RuleContext,
  features: IptablesFeatures,
): ProgrammedFamily {
  const dispatch = new WeakMap<ServiceFrontends, DispatchRules>()
  const dispatchOf = remembering(dispatch, context)
  return { services, context, features, dispatch, shared: sharedChains(services, context, { features, dispatchOf }) }
}

/**
 * The changes that lead from programmed rules to `services`, whose settings are the same (kube-proxy's partial sync,
 * KEP-3453): chains of changed Services, and those shared chains whose rules differ. Pure, but for what it remembers.
 */
export function changeFamily(
  before: ProgrammedFamily,
  services: CompiledServices,
): { readonly changes: readonly TableChanges[]; readonly after: ProgrammedFamily } {
  const { features } = before
  const { family, terse } = before.context
  const context = contextOf(services, { family, terse })
  const keys = SharedMap.changedKeys(before.services.services, services.services)
  const dispatchOf = remembering(before.dispatch, context)
  let dispatchChanged = before.services.serviceCIDRs !== services.serviceCIDRs
  const old = new Map<string, ChainRules>()
  const wanted = new Map<string, ChainRules>()
  for (const key of keys) {
    const was = before.services.services.get(key)
    const is = services.services.get(key)
    if (was) addServiceChains(old, was, before.context)
    if (is) addServiceChains(wanted, is, context)
    dispatchChanged ||= !was || !is || !sameDispatch(remembering(before.dispatch, before.context)(was), dispatchOf(is))
  }
  const shared = dispatchChanged ? sharedChains(services, context, { features, dispatchOf }) : before.shared
  const natChains = new Map([...changed(before.shared.nat, shared.nat), ...changed(old, wanted)])
  const deleteChains = [...old.keys()].filter((name) => !wanted.has(name))
  const changes: TableChanges[] = [
    { table: 'filter', chains: changed(before.shared.filter, shared.filter) },
    { table: 'nat', chains: natChains, deleteChains },
  ]
  return { changes, after: { ...before, services, context, shared } }
}

function remembering(
  memory: WeakMap<ServiceFrontends, DispatchRules>,
  context: RuleContext,
): (service: ServiceFrontends) => DispatchRules {
  return (service) => {
    let rules = memory.get(service)
    if (!rules) memory.set(service, (rules = dispatchRules(service, context)))
    return rules
  }
}

function changed(before: WantedChains, after: WantedChains): WantedChains {
  const isSame = ([name, rules]: [string, ChainRules]): boolean => {
    const was = before.get(name)
    return was !== undefined && sameRules(was, rules)
  }
  return new Map([...after].filter((chain) => !isSame(chain)))
}

function sameDispatch(a: DispatchRules, b: DispatchRules): boolean {
  return (Object.keys(a) as (keyof DispatchRules)[]).every((part) => sameRules(a[part], b[part]))
}
