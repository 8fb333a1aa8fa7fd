import { expect, test } from 'vitest'
import { parseMac } from '../net/mac-address.ts'
import { AttachError, checkMac } from './attach-request.ts'

const network = { name: 'default', bridge: 'fl0', mac: parseMac('02:00:00:00:00:01') }
const lease = { owner: 'pod default/a', network: 'default', mac: parseMac('02:00:00:00:00:02') } as const
const context = { network, leases: [lease, { ...lease, network: 'other', mac: parseMac('02:00:00:00:00:03') }] }

test.each([
  ['02:00:00:00:00:01', 'of bridge fl0 '],
  ['02:00:00:00:00:02', 'of pod default/a '],
])('checkMac() refuses %s, which is that %s', (mac, whose) => {
  expect(() => checkMac(parseMac(mac), context)).toThrow(AttachError)
  expect(() => checkMac(parseMac(mac), context)).toThrow(`${mac} is the MAC address ${whose}`)
})

test('checkMac() takes one that somebody has in another network', () => {
  checkMac(parseMac('02:00:00:00:00:03'), context)
})
