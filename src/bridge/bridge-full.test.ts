import { expect, test } from 'vitest'
import { BridgeFullError, explainFull, fullness } from './bridge-full.ts'
import { NetlinkError } from '../netlink/netlink-error.ts'

const network = { name: 'default', bridge: 'fl0' }

test.each([
  [818, undefined],
  [819, 'network default: 819 of 1023 ports of bridge fl0 are in use (put new pods on another network)'],
])('fullness: %i endpoints', (endpoints, expected) => {
  expect(fullness(network, endpoints)).toBe(expected)
})

test('explainFull: EXFULL becomes a BridgeFullError that says what to do; other errors stay', () => {
  const EXFULL = 54
  const full = explainFull('fl0', new NetlinkError('create veth', EXFULL))
  expect(full).toBeInstanceOf(BridgeFullError)
  expect((full as Error).message).toContain('1023 ports, as many as a bridge can have (use another network')
  const other = new Error('other')
  expect(explainFull('fl0', other)).toBe(other)
})
