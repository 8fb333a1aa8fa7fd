import { silentLog } from '../base/log.ts'
import type { Cidr } from '../net/cidr.ts'
import { FakeNftables } from '../nftables/fake-nftables.ts'
import { openNftables } from '../nftables/open-client.ts'
import { compileServices } from '../proxy/compile-services.ts'
import { NftablesMode } from '../proxy/nftables-mode.ts'
import { readFiles } from '../sources/files.ts'
import { mergeSources } from '../sources/merge.ts'
import { formatProblem, type Source, type SourceState } from '../sources/source.ts'
import { defaultConfig } from './config.ts'

/** What `fairlead plan` says. */
export interface ManifestPlan {
  /** The changes as nft would write them. */
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
  const compiled = compileServices(sources.current, {
    nodeName: options.nodeName,
    settings: {
      localPods: options.clusterCIDRs,
      masqueradeAll: false,
      nodePortAddresses: undefined,
      ownAddresses: dns?.addresses ?? [],
    },
  })
  using client = options.againstKernel ? openNftables({ log: silentLog }) : new FakeNftables()
  const mode = new NftablesMode(client, { log: silentLog })
  const plan = await mode.plan(compiled, { against: options.againstKernel ? 'kernel' : 'nothing' })
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
