import type { NftClient } from '../nftables/client.ts'

/**
 * A client in which table `as` is the kernel's table `kernelName`, and the kernel's own `as` is not to be seen: two modes can
 * have the same rules side by side, while one takes over from the other.
 */
export function renamedTable(client: NftClient, { as, kernelName }: { as: string; kernelName: string }): NftClient {
  const toKernel = (table: string): string => (table === as ? kernelName : table)
  const fromKernel = (table: string): string => (table === kernelName ? as : table)
  return {
    async read(family, table) {
      const found = await client.read(family, toKernel(table))
      return found && { ...found, name: fromKernel(found.name) }
    },
    run: async (transaction) => await client.run({ ...transaction, table: toKernel(transaction.table) }),
    async listTables() {
      const tables = await client.listTables()
      return tables.filter(({ name }) => name !== as).map((table) => ({ ...table, name: fromKernel(table.name) }))
    },
    async listChains() {
      const chains = await client.listChains()
      return chains.filter(({ table }) => table !== as).map((chain) => ({ ...chain, table: fromKernel(chain.table) }))
    },
    quietly: (work, commits) => client.quietly(work, commits),
    watch(listener) {
      client.watch({
        onChange(change) {
          if (change.table !== as) listener.onChange({ ...change, table: fromKernel(change.table) })
        },
        onLost: () => listener.onLost(),
      })
    },
    [Symbol.dispose]: () => client[Symbol.dispose](),
  }
}
