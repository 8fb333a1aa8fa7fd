import { describe, expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { FakeIptables } from './fake-iptables.ts'
import type { TableChanges } from './objects.ts'
import { OwnRestores } from './own-restores.ts'
import { TableWatch, type TableNotifications } from './table-watch.ts'

const change: TableChanges = { table: 'nat', chains: new Map([['A', ['-j RETURN']]]) }
const foreign = '*nat\n:B - [0:0]\nCOMMIT'

function watched(variant: 'legacy' | 'nft') {
  const clock = new FakeClock()
  const client = new FakeIptables(4, variant)
  const restores = new OwnRestores(clock)
  const seen: (string | undefined)[] = []
  let notify: Parameters<TableNotifications['watch']>[0] | undefined
  const nft: TableNotifications | undefined =
    variant === 'nft' ? { watch: (listener) => void (notify = listener) } : undefined
  const onChange = (by: string | undefined): void => void seen.push(by)
  const watch = new TableWatch({ clients: [client], tables: ['nat'], nft, restores, clock, onChange })
  const tell = (table: string, name: string): void => notify?.onChange({ family: 'ip', table, process: { name } })
  return { clock, client, restores, seen, watch, tell }
}

describe('TableWatch with the legacy tools', () => {
  test('reports a change by others at the next look, and only once', async () => {
    const { clock, client, seen, watch } = watched('legacy')
    using _ = watch
    await clock.advance(1000)
    expect(seen).toEqual([])
    client.apply(foreign)
    await clock.advance(1000)
    expect(seen).toEqual([undefined])
  })

  test('does not report what any part of this process restores', async () => {
    const { clock, client, restores, seen, watch } = watched('legacy')
    using _ = watch
    await restores.during(() => client.restore([change]))
    await clock.advance(1000)
    expect(seen).toEqual([])
  })

  test('reports a change by others that a restore of ours would hide', async () => {
    const { client, restores, seen, watch } = watched('legacy')
    using _ = watch
    client.apply(foreign)
    await restores.during(() => client.restore([change]))
    expect(seen).toEqual([undefined])
  })

  test('says nothing more when it is disposed', async () => {
    const { clock, client, seen, watch } = watched('legacy')
    watch[Symbol.dispose]()
    client.apply(foreign)
    await clock.advance(1000)
    expect(seen).toEqual([])
  })
})

describe('TableWatch with the nft tools', () => {
  test('reports who changed one of its tables, but not echoes of our restores', async () => {
    const { clock, client, restores, seen, watch, tell } = watched('nft')
    using _ = watch
    tell('nat', 'iptables')
    tell('filter', 'iptables')
    expect(seen).toEqual(['iptables'])
    await restores.during(async () => {
      tell('nat', 'iptables-nft-re')
      tell('nat', 'dockerd')
      return await client.restore([change])
    })
    tell('nat', 'iptables-restor')
    expect(seen).toEqual(['iptables', 'dockerd'])
    await clock.advance(200)
    tell('nat', 'iptables-restor')
    expect(seen).toEqual(['iptables', 'dockerd', 'iptables-restor'])
  })
})
