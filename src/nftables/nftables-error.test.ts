import { expect, test } from 'vitest'
import { SyscallError } from '../linux/errno.ts'
import { NetlinkError, NetlinkSocketError } from '../netlink/netlink-error.ts'
import { registerBytes } from './keys.ts'
import {
  asNftablesError,
  isPermissionDenied,
  isTableChanged,
  isUnsupported,
  nameChange,
  refusal,
  refusedError,
  tableChangedError,
} from './nftables-error.ts'
import type { NftSet } from './objects.ts'
import type { Change } from './transaction.ts'

const table = { family: 'inet', table: 'lb' } as const
const set: NftSet = { name: 'm', key: ['meta mark'], data: ['meta mark'] }
const elements = new Map([[registerBytes({ number: 1 }), registerBytes({ number: 2 })]])

const names: readonly (readonly [Change, string])[] = [
  [{ op: 'add-table' }, 'add table inet lb'],
  [{ op: 'delete-table' }, 'delete table inet lb'],
  [{ op: 'add-chain', chain: { name: 'c' } }, 'add chain inet lb c'],
  [{ op: 'delete-chain', chain: 'c' }, 'delete chain inet lb c'],
  [{ op: 'flush-chain', chain: 'c' }, 'flush chain inet lb c'],
  [{ op: 'add-rule', chain: 'c', rule: { statements: [] } }, 'add rule inet lb c'],
  [{ op: 'add-set', set }, 'add map inet lb m'],
  [{ op: 'delete-set', set: 'm' }, 'delete set inet lb m'],
  [{ op: 'add-elements', set, elements }, 'add 1 elements inet lb m'],
  [{ op: 'delete-elements', set, elements }, 'delete 1 elements inet lb m'],
]

test.each(names)('nameChange() says %j', (change, name) => {
  expect(nameChange(table, change)).toBe(name)
})

test('nameChange() names the element', () => {
  const change: Change = { op: 'add-elements', set, elements }
  expect(nameChange(table, change, registerBytes({ number: 1 }))).toBe('add element inet lb m { 0x00000001 }')
})

test("refusedError() names each refused change, with the kernel's words", () => {
  const error = refusedError(table, [
    refusal({ op: 'delete-chain', chain: 'c' }, 16),
    refusal({ op: 'delete-set', set: 'm' }, 2, { kernelMessage: 'no such set' }),
  ])
  expect(error.message).toBe('delete chain inet lb c: EBUSY; delete set inet lb m: ENOENT (kernel: no such set)')
  expect(error.code).toBe('EBUSY')
  expect(error.refused.length).toBe(2)
})

test('refusedError() names the first ten changes and counts the rest', () => {
  const error = refusedError(
    table,
    Array.from({ length: 25 }, (_, n) => refusal({ op: 'delete-chain', chain: `c${n}` }, 16)),
  )
  expect(error.message).toContain('c9: EBUSY; and 15 more')
  expect(error.message).not.toContain('c10')
})

test.each([
  { name: 'not root', cause: new SyscallError('setsockopt', 1), is: isPermissionDenied, code: 'EPERM' },
  { name: 'no right to ask', cause: new NetlinkError('list', 1), is: isPermissionDenied, code: 'EPERM' },
  { name: 'no nfnetlink', cause: new SyscallError('socket', 93), is: isUnsupported, code: 'EOPNOTSUPP' },
  { name: 'no nf_tables', cause: new NetlinkError('get', 22), is: isUnsupported, code: 'EOPNOTSUPP' },
  { name: 'a table that changed', cause: tableChangedError(table, 'nft (pid 7)'), is: isTableChanged, code: 'ESTALE' },
])('asNftablesError() makes an error that can be asked out of $name', ({ cause, is, code }) => {
  const error = asNftablesError('list tables', cause)
  expect(is(error)).toBe(true)
  expect(error).toMatchObject({ code })
})

test('asNftablesError() says ENOBUFS where messages were lost, and keeps the cause', () => {
  const cause = new NetlinkSocketError('netlink messages were lost')
  expect(asNftablesError('run', cause)).toMatchObject({ code: 'ENOBUFS', cause })
})
