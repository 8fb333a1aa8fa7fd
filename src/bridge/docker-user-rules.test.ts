import { describe, expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { fakeNftables } from '../nftables/fake-nftables.ts'
import { DockerUserRules, removeDockerUserRules } from './docker-user-rules.ts'

/** The machine's own tables are none of the test's business. */
const legacyTables = (): string[] => []

/** Counts how often the chains are listed: each look begins so. */
function counted(): { nft: ReturnType<typeof fakeNftables>; looks: () => number } {
  const nft = fakeNftables()
  let looks = 0
  const list = nft.listChains.bind(nft)
  nft.listChains = async () => {
    looks++
    return await list()
  }
  return { nft, looks: () => looks }
}

async function settle(clock: FakeClock, ms: number): Promise<void> {
  await clock.advance(ms)
  await new Promise((resolve) => setImmediate(resolve))
}

describe('DockerUserRules', () => {
  test('DockerUserRules look at start, at changes of table filter, and when our bridges change, and then only', async () => {
    const { nft, looks } = counted()
    const clock = new FakeClock()
    let bridges = ['fl0']
    await using rules = new DockerUserRules({ bridges: () => bridges, nft, log: silentLog, clock, legacyTables })
    rules.follow()
    await settle(clock, 0)
    expect(looks()).toBe(1)
    await settle(clock, 1000)
    await settle(clock, 1000)
    expect(looks(), 'nothing happened').toBe(1)

    const add = (table: string) => nft.simulateForeignChange({ family: 'ip', table, changes: [{ op: 'add-table' }] })
    add('nat')
    await settle(clock, 100)
    expect(looks(), 'another table').toBe(1)
    add('filter')
    await settle(clock, 100)
    expect(looks(), 'table filter').toBe(2)
    nft.simulateLoss()
    await settle(clock, 100)
    expect(looks(), 'lost notifications').toBe(3)
    bridges = ['fl0', 'fl1']
    await settle(clock, 1000)
    expect(looks(), 'another bridge').toBe(4)
  })

  test('removeDockerUserRules() runs nothing where Docker is not', async () => {
    // A chain of that name in another family is not Docker's.
    const nft = fakeNftables()
    const chain = { family: 'inet', table: 'filter', name: 'DOCKER-USER' } as const
    nft.foreignChains = [{ ...chain, hook: undefined, policy: undefined, refusesAll: undefined }]
    expect(await removeDockerUserRules(nft, legacyTables)).toEqual([])
  })
})
