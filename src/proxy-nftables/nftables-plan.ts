import type { ReadTable } from '../nftables/client.ts'
import { diffTable } from '../nftables/diff.ts'
import { formatTransaction } from '../nftables/format.ts'
import { AffinityNumbers } from './affinity-numbers.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type { Plan } from '../proxy/dataplane.ts'
import { countChanges } from './nftables-changes.ts'
import { servicesTable } from './nftables-sets.ts'
import { claimNumbers, compileTable } from './nftables-table.ts'

/** What bringing the kernel from `current` (undefined: from nothing) to `services` takes, as commands of nft. Pure. */
export function planTable(services: CompiledServices, current: ReadTable | undefined): Plan {
  const changes = diffTable(
    current,
    compileTable(services, claimNumbers(new AffinityNumbers(), services, current?.elements)),
  )
  const text = formatTransaction({ family: 'inet', table: servicesTable, changes })
  return { lines: text === '' ? [] : text.split('\n'), ...countChanges(changes) }
}
