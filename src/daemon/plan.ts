import { silentLog } from '../base/log.ts'
import type { Cidr } from '../net/cidr.ts'
import { openNftables } from '../nftables/open-client.ts'
import { compileServices } from '../proxy/compile-services.ts'
import { NftablesMode } from '../proxy-nftables/nftables-mode.ts'
import { planTable } from '../proxy-nftables/nftables-plan.ts'
import { readFiles } from '../sources/files.ts'
import { mergeSources } from '../sources/merge.ts'
import { formatProblem, type Source, type SourceState } from '../sources/source.ts'
import { defaultConfig } from './config.ts'

/** What `fairlead plan` says. */
export interface ManifestPlan {
  /** The changes as commands of nft: `nft -f` takes those that are made against nothing. */
  readonly lines: readonly string[]
  readonly services: number
  readonly elements: number
  readonly rules: number
  /** Manifests and Services that cannot be used, one line each. */
  readonly problems: readonly string[]
}

/** Compiles manifests to rules without touching anything. With `againstKernel`, prints the difference to the kernel's. */
export async function planManifests(
  paths: readonly string[],
  options: { nodeName: string; clusterCIDRs: readonly Cidr[]; againstKernel: boolean },
): Promise<ManifestPlan> {
  const { services, dns } = defaultConfig()
  const states = await Promise.all(paths.map((path) => readFiles(path, { log: silentLog })))
  using sources = mergeSources({
    sources: states.map((state, index) => readOnce(paths[index] ?? '', state)),
    log: silentLog,
    ...(services && { allocate: { serviceCIDRs: services.serviceCIDRs, reserved: dns?.addresses ?? [] } }),
  })
  using client = options.againstKernel ? openNftables({ log: silentLog }) : undefined
  const mode = client && new NftablesMode(client, { log: silentLog })
  const compiled = compileServices(sources.current, {
    nodeName: options.nodeName,
    settings: {
      localPods: options.clusterCIDRs,
      masqueradeAll: false,
      nodePortAddresses: undefined,
      ownAddresses: dns?.addresses ?? [],
    },
    // A daemon would keep the slots that the kernel has, too.
    recalled: await mode?.recall(),
  })
  const plan = mode ? await mode.plan(compiled) : planTable(compiled, undefined)
  const problems = sources.problems.filter(({ severity }) => severity === 'error').map(formatProblem)
  return {
    ...plan,
    services: compiled.services.size,
    problems: [...problems, ...[...compiled.problems.values()].flat()],
  }
}

/** A source that never changes. A file that could not be read counts as read: its problem is in the list. */
function readOnce(name: string, state: SourceState): Source {
  return { name, current: { ...state, synced: true }, subscribe: () => () => {} }
}
