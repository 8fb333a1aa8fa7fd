import { describe } from 'vitest'
import { inAnyOrder, testFirewallRules, type FirewallWish } from '../../test/contract/firewall-rules.ts'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { FakeIptables } from '../iptables/fake-iptables.ts'
import { OwnRestores } from '../iptables/own-restores.ts'
import { ipFamilies } from '../net/ip-address.ts'
import { FakeNftables } from '../nftables/fake-nftables.ts'
import { formatTable } from '../nftables/format.ts'
import type { FirewallRules } from './firewall-rules.ts'
import { IptablesFirewall } from './iptables-firewall.ts'
import { bridgeTables } from './iptables-rules.ts'
import { bridgeTable } from './names.ts'
import { NftablesFirewall, type FirewallSource } from './nftables-firewall.ts'

const sourceOf = (wish: FirewallWish, clock: FakeClock): FirewallSource => ({
  networks: () => wish.networks,
  leases: () => wish.leases,
  log: silentLog,
  clock,
})

async function settle(clock: FakeClock): Promise<void> {
  for (let i = 0; i < 10; i++) {
    await clock.advance(100)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

describe('NftablesFirewall on a fake', () => {
  testFirewallRules(async () => {
    const nft = new FakeNftables()
    const clock = new FakeClock()
    await using scope = new AsyncDisposableStack()
    const opened = scope.use(new AsyncDisposableStack())
    scope.move()
    const families = ['inet', 'bridge'] as const
    return {
      open: (wish): FirewallRules => opened.use(new NftablesFirewall({ ...sourceOf(wish, clock), nft })),
      shown: async () => {
        const tables = await Promise.all(families.map((family) => nft.read(family, bridgeTable)))
        return inAnyOrder(tables.map((table) => (table ? formatTable(table) : '')).join('\n'))
      },
      writes: () => nft.transactions.length,
      flush: async () => {
        for (const family of families) {
          nft.simulateForeignChange({ family, table: bridgeTable, changes: [{ op: 'delete-table' }] })
        }
        return await Promise.resolve()
      },
      settle: () => settle(clock),
      [Symbol.asyncDispose]: () => opened.disposeAsync(),
    }
  })
})

describe.each([
  { where: 'beside nf_tables', besideNft: true },
  { where: 'without nf_tables', besideNft: false },
])('IptablesFirewall on a fake, $where', ({ besideNft }) => {
  testFirewallRules(async () => {
    const clients = ipFamilies.map((family) => new FakeIptables(family))
    const nft = besideNft ? new FakeNftables() : undefined
    const clock = new FakeClock()
    const restores = new OwnRestores(clock)
    const opened = new AsyncDisposableStack()
    return await Promise.resolve({
      open: (wish): FirewallRules => {
        const iptables = { clients, notifications: undefined, restores }
        return opened.use(new IptablesFirewall({ ...sourceOf(wish, clock), nft, iptables }))
      },
      shown: async () => {
        const saved = await Promise.all(clients.map((client) => client.save(bridgeTables)))
        return JSON.stringify(
          saved.map((tables) =>
            [...tables].map(([name, chains]) => [name, [...chains].toSorted(([a], [b]) => (a < b ? -1 : 1))]),
          ),
        )
      },
      writes: () => clients.reduce((sum, { restored }) => sum + restored.length, nft?.transactions.length ?? 0),
      flush: async () => {
        for (const client of clients) {
          const saved = await client.save(bridgeTables)
          for (const [table, chains] of saved) {
            const lines = [...chains.keys()].map((chain) => `:${chain} - [0:0]`)
            client.apply([`*${table}`, ...lines, 'COMMIT'].join('\n'))
          }
        }
      },
      settle: () => settle(clock),
      [Symbol.asyncDispose]: () => opened.disposeAsync(),
    })
  })
})
