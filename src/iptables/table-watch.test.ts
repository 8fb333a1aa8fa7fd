import { expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import type { IptablesClient } from './client.ts'
import { OwnRestores } from './own-restores.ts'
import { TableWatch } from './table-watch.ts'

/** A watch over one table of the legacy kind, whose size is `size`. */
function watched() {
  const clock = new FakeClock()
  const restores = new OwnRestores(clock)
  const table = { size: 1 }
  const reports: number[] = []
  const client = { family: 4, mark: () => String(table.size) } as unknown as IptablesClient
  const onChange = (): void => void reports.push(clock.monotonic())
  const watch = new TableWatch({ clients: [client], tables: ['nat'], nft: undefined, restores, clock, onChange })
  return { clock, restores, table, reports, watch }
}

test('TableWatch reports what others do, and not what we do', async () => {
  const { clock, restores, table, reports, watch } = watched()
  await clock.advance(1000)
  await restores.during(async () => void (table.size += 5))
  await clock.advance(1000)
  expect(reports).toEqual([])
  table.size--
  await clock.advance(1000)
  expect(reports).toHaveLength(1)
  watch[Symbol.dispose]()
})

test('TableWatch reports what others did just before a restore of ours', async () => {
  const { clock, restores, table, reports, watch } = watched()
  await clock.advance(1000)
  table.size--
  await restores.during(async () => void (table.size += 5))
  expect(reports).toEqual([1000])
  watch[Symbol.dispose]()
})
