import { join } from 'node:path'
import { BridgeNetworks, type BridgeNetworksOptions } from './bridge-networks.ts'
import { checkLeases, defineNetworks, reclaimLeases } from './decide-networks.ts'
import { enableForwarding } from './forwarding.ts'
import { LeaseJournal } from './leases.ts'
import { pickedSubnetsFile, readPickedSubnets, writePickedSubnets } from './picked-subnets.ts'

/**
 * Decides the networks, reclaims leases that nobody holds any more, and makes the kernel's part, adopting what is right
 * already. Throws NetworkError for settings that cannot be used, before anything was changed but leases of what is gone.
 */
export async function openBridgeNetworks(options: BridgeNetworksOptions): Promise<BridgeNetworks> {
  const { log, stateDir, elsewhere } = options
  const subnetsFile = pickedSubnetsFile(stateDir)
  const reserved = [...(options.reserved ?? []), ...(elsewhere?.reserved ?? [])]
  const journal = options.journal ?? (await openJournal(options))
  try {
    await reclaimLeases(journal, options)
    const own = Iterator.from(journal.leases.values()).filter(({ network }) => !elsewhere?.has(network))
    const leases = [...own]
    const previous = readPickedSubnets(subnetsFile, log)
    const networks = await defineNetworks({ ...options, reserved }, { previous, leases })
    checkLeases(leases, networks)
    writePickedSubnets(subnetsFile, networks)
    const opened = new BridgeNetworks(networks, journal, options)
    await enableForwarding(opened.plan.sysctls, options)
    await firstReconciliation(opened, options)
    opened.follow()
    return opened
  } catch (error) {
    if (!options.journal) await journal[Symbol.asyncDispose]()
    throw error
  }
}

/** The leases of all networks, as an earlier daemon left them. Throws StateFileError. */
export async function openJournal({
  stateDir,
  log,
}: Pick<BridgeNetworksOptions, 'stateDir' | 'log'>): Promise<LeaseJournal> {
  return await LeaseJournal.open(join(stateDir, 'leases'), { log })
}

/** A pod that cannot be repaired must not keep the others from their network; a bridge that is not there would. */
async function firstReconciliation(opened: BridgeNetworks, options: BridgeNetworksOptions): Promise<void> {
  const { kernel, log } = options
  try {
    for (const action of await opened.reconcile()) log.info({ action }, `Networks: ${action}`)
  } catch (error) {
    const names = new Set((await kernel.rtnetlink.links.list()).map(({ name }) => name))
    if (!(error instanceof AggregateError) || opened.networks.some(({ bridge }) => !names.has(bridge))) throw error
    log.error({ err: error }, `Not everything of the networks could be made: ${error.message}`)
  }
}
