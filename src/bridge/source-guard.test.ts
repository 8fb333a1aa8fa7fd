import { expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { formatTable } from '../nftables/format.ts'
import { linkLocalOf } from './firewall-plan.ts'
import { hostLinkName } from './names.ts'
import { compileSourceGuard } from './source-guard.ts'

const mac = parseMac('02:00:00:00:00:02')
const lease = {
  owner: 'pod default/a',
  network: 'default',
  mac,
  ips: [parseIp('10.7.0.2'), parseIp('fd00:7::2')],
} as const
const gateway = parseMac('02:00:00:00:00:01')

test('compileSourceGuard() lets a port send with its MAC and addresses', () => {
  const port = hostLinkName(lease.owner)
  const text = formatTable(compileSourceGuard([{ name: 'default', bridge: 'fl0', mac: gateway, icc: true }], [lease]))
  expect(text).toContain(`elements = { "${port}" . 02:00:00:00:00:02 }`)
  expect(text).toContain(`"${port}" . 02:00:00:00:00:02 . 10.7.0.2`)
  for (const ip of ['::', 'fd00:7::2', 'fe80::ff:fe00:2'])
    expect(text).toContain(`"${port}" . 02:00:00:00:00:02 . ${ip}`)
  expect(text).not.toContain(gateway)
})

test('compileSourceGuard() lets a port without inter-container communication send to the bridge only', () => {
  const text = formatTable(compileSourceGuard([{ name: 'default', bridge: 'fl0', mac: gateway, icc: false }], [lease]))
  expect(text).toContain(`"${hostLinkName(lease.owner)}" . 02:00:00:00:00:01`)
})

test('linkLocalOf() is the EUI-64 address of a MAC', () => {
  expect(linkLocalOf(parseMac('02:11:22:33:44:55'))).toBe('fe80::11:22ff:fe33:4455')
})
