import { deleteNetns, listNetns } from '../linux/netns.ts'
import type { NftClient } from '../nftables/client.ts'
import { deleteLinks } from './apply.ts'
import { restoreForwarding } from './forwarding.ts'
import type { BridgeKernel } from './kernel.ts'
import { defaultNetnsPrefix, isOurs, isPodNetns, netnsPath } from './names.ts'
import { killAllIn, killAllOnHost } from './pod-process.ts'

/** The names of all our nftables tables begin so, whichever part made them. */
const tablePrefix = 'fairlead-'

/**
 * Removes everything of ours from the kernel, without any state file: processes in our namespaces, the namespaces, links
 * (by group and alias) and nftables tables (by name). Sysctls are set back where it is remembered what they were. Returns what was removed, in words. Tries everything, then throws AggregateError with what failed.
 */
export async function cleanupBridge(options: {
  readonly kernel: BridgeKernel
  /** Undefined where the kernel has no nf_tables. */
  readonly nft: NftClient | undefined
  /** @default `fl-` */
  readonly netnsPrefix?: string
  /** Where the host's own sysctls are remembered, if anywhere: they are set back. */
  readonly remembered?: { readonly stateDir: string; readonly bootId: string }
}): Promise<readonly string[]> {
  const { kernel, nft, netnsPrefix = defaultNetnsPrefix, remembered } = options
  const removed: string[] = []
  const errors: Error[] = []
  const attempt = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    try {
      await work()
      removed.push(what)
    } catch (error) {
      errors.push(new Error(`cannot remove ${what}: ${(error as Error).message}`, { cause: error }))
    }
  }
  for (const name of listNetns().filter((name) => isPodNetns(name, netnsPrefix))) {
    await attempt(`network namespace ${name}`, async () => {
      const processes = await killAllIn(netnsPath(name))
      if (processes > 0) removed.push(`${processes} processes in ${name}`)
      deleteNetns(name)
    })
  }
  // Only tests have another namespace play the host: pods in its network are not looked for.
  if (kernel.handle === undefined) {
    const processes = await killAllOnHost()
    if (processes > 0) removed.push(`${processes} processes of pods in network host`)
  }
  const links = (await kernel.rtnetlink.links.list()).filter(isOurs)
  if (links.length > 0) {
    const names = links.map(({ name, alias }) => `link ${name}${alias === undefined ? '' : ` (${alias})`}`)
    await attempt(names.join(', '), () =>
      deleteLinks(
        links.map(({ index }) => index),
        kernel.rtnetlink,
      ),
    )
  }
  const tables = (await nft?.listTables()) ?? []
  for (const { family, name } of tables.filter(({ name }) => name.startsWith(tablePrefix))) {
    await attempt(`nftables table ${family} ${name}`, async () =>
      nft?.run({ family, table: name, changes: [{ op: 'delete-table' }] }),
    )
  }
  if (remembered) removed.push(...restoreForwarding({ kernel, ...remembered }))
  if (errors.length > 0) throw new AggregateError(errors, errors.map((error) => error.message).join('; '))
  return removed
}
