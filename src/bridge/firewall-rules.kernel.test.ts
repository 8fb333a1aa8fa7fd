import { describe, vi } from 'vitest'
import { inAnyOrder, testFirewallRules, type FirewallWish } from '../../test/contract/firewall-rules.ts'
import { patience } from '../../test/lab/patience.ts'
import { silentLog } from '../base/log.ts'
import { openTools } from '../iptables/open-tools.ts'
import { OwnRestores } from '../iptables/own-restores.ts'
import { run } from '../linux/exec.ts'
import { createAnonymousNetns } from '../linux/netns.ts'
import { openNftables } from '../nftables/open-client.ts'
import type { FirewallRules } from './firewall-rules.ts'
import { IptablesFirewall } from './iptables-firewall.ts'
import { bridgeTables } from './iptables-rules.ts'
import { NftablesFirewall, type FirewallSource } from './nftables-firewall.ts'

const sourceOf = (wish: FirewallWish): FirewallSource => ({
  networks: () => wish.networks,
  leases: () => wish.leases,
  log: silentLog,
})

describe.each([
  { name: 'NftablesFirewall', tools: undefined, alone: false },
  { name: 'IptablesFirewall with the nft tools', tools: 'nft', alone: false },
  { name: 'IptablesFirewall with the legacy tools, alone', tools: 'legacy', alone: true },
] as const)('$name', ({ tools, alone }) => {
  testFirewallRules(async () => {
    const opened = new AsyncDisposableStack()
    const netns = opened.use(createAnonymousNetns())
    let writes = 0
    const nft = alone ? undefined : opened.use(openNftables({ netns }))
    const apply = nft?.run.bind(nft)
    if (nft && apply) {
      nft.run = (transaction) => {
        writes++
        return apply(transaction)
      }
    }
    const clients = tools ? (await openTools({ netns, variant: tools })).clients : []
    for (const client of clients) {
      const restore = client.restore.bind(client)
      client.restore = (changes) => {
        writes++
        return restore(changes)
      }
    }
    const restores = new OwnRestores()
    const all: FirewallRules[] = []
    const shown = async (): Promise<string> => {
      const argvs = tools
        ? ['iptables', 'ip6tables'].flatMap((base) =>
            bridgeTables.map((table) => [`${base}-${tools}-save`, '-t', table]),
          )
        : []
      const commands = [...argvs, ...(tools ? [] : [['nft', 'list', 'ruleset']])]
      let text = ''
      for (const argv of commands) text += (await run(argv, { netns })).stdout
      const lines = text.split('\n').filter((line) => !line.startsWith('#'))
      const whole = lines.map((line) => line.replace(/\[\d+:\d+\]/, '')).join('\n')
      return tools ? whole : inAnyOrder(whole)
    }
    return {
      open: (wish): FirewallRules => {
        const source = sourceOf(wish)
        const iptables = { clients, notifications: nft, restores }
        const rules = tools
          ? new IptablesFirewall({
              ...source,
              nft,
              iptables: { ...iptables, notifications: tools === 'nft' ? nft : undefined },
            })
          : new NftablesFirewall({ ...source, nft: nft! })
        all.push(rules)
        return opened.use(rules)
      },
      shown,
      writes: () => writes,
      flush: async () => {
        const commands = tools
          ? bridgeTables.map((table) => [`iptables-${tools}`, '-w', '5', '-t', table, '-F'])
          : [['nft', 'flush', 'ruleset']]
        for (const argv of commands) await run(argv, { netns })
      },
      settle: async () => {
        await vi.waitUntil(() => all.some(({ repairs }) => repairs > 0), { timeout: patience(5000), interval: 20 })
        // A second table may be repaired after the first.
        await new Promise((resolve) => setTimeout(resolve, patience(300)))
      },
      [Symbol.asyncDispose]: () => opened.disposeAsync(),
    }
  })
})
