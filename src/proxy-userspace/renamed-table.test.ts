import { expect, test } from 'vitest'
import { FakeNftables } from '../nftables/fake-nftables.ts'
import { renamedTable } from './renamed-table.ts'

test('renamedTable() has a table of its own behind the name, and does not see the one that bears it', async () => {
  const kernel = new FakeNftables()
  const client = renamedTable(kernel, { as: 'services', kernelName: 'other' })
  const add = { family: 'inet', changes: [{ op: 'add-table' }] } as const
  await client.run({ ...add, table: 'services' })
  expect((await kernel.listTables()).map(({ name }) => name)).toEqual(['other'])
  await kernel.run({ ...add, table: 'services' })
  await kernel.run({ ...add, table: 'third' })
  expect((await client.listTables()).map(({ name }) => name)).toEqual(['services', 'third'])
  expect((await client.read('inet', 'services'))?.name).toBe('services')
  await client.run({ family: 'inet', table: 'services', changes: [{ op: 'delete-table' }] })
  expect((await kernel.listTables()).map(({ name }) => name)).toEqual(['services', 'third'])
})
