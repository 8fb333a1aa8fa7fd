import { describe, expect, test } from 'vitest'
import { formatFieldProblem } from './manifest-error.ts'
import { ManifestReader } from './manifest-reader.ts'
import { readNetworkSettings } from './read-network-settings.ts'

function read(spec: object) {
  const reader = ManifestReader.of(spec)
  const settings = readNetworkSettings(reader, { name: 'lan' })
  return { settings, problems: reader.problems.map(formatFieldProblem) }
}

describe('readNetworkSettings(), of a network on the LAN', () => {
  test('has the driver, its parent, and defaults', () => {
    expect(read({ driver: 'macvlan', parent: 'eth1', addresses: 'dhcp' })).toEqual({
      settings: {
        driver: 'macvlan',
        name: 'lan',
        parent: 'eth1',
        mode: 'bridge',
        addresses: 'dhcp',
        subnets: [],
        mtu: undefined,
      },
      problems: [],
    })
    expect(read({ driver: 'ipvlan', parent: 'eth1', subnets: ['10.1.0.0/24'] }).settings).toMatchObject({
      driver: 'ipvlan',
      mode: 'l2',
      addresses: 'pool',
    })
  })

  test.each<[object, RegExp]>([
    [{ driver: 'macvlan', addresses: 'dhcp' }, /parent: is missing/],
    [{ driver: 'macvlan', parent: 'a b', addresses: 'dhcp' }, /parent: "a b" is not an interface name/],
    [{ driver: 'macvlan', parent: 'eth1' }, /subnets: is missing .*addresses: dhcp/],
    [{ driver: 'macvlan', parent: 'eth1', addresses: 'slaac' }, /addresses: "slaac"/],
    [
      { driver: 'macvlan', parent: 'eth1', addresses: 'dhcp', subnets: ['10.1.0.0/24'] },
      /subnets: comes from the DHCP server/,
    ],
    [
      { driver: 'macvlan', parent: 'eth1', addresses: 'dhcp', internal: true },
      /internal: is for networks of driver bridge/,
    ],
    [{ driver: 'macvlan', parent: 'eth1', addresses: 'dhcp', ipv6: false }, /ipv6: is for networks of driver bridge/],
    [{ driver: 'macvlan', parent: 'eth1', addresses: 'dhcp', mode: 'l3' }, /mode: "l3"/],
    [{ driver: 'ipvlan', parent: 'eth1', addresses: 'dhcp' }, /addresses: cannot be dhcp/],
    [{ parent: 'eth1' }, /parent: is for networks of driver macvlan or ipvlan/],
    [{ driver: 'overlay' }, /driver: "overlay" is not known here/],
  ])('refuses %j', (spec, message) => {
    expect(read(spec).problems.join('\n')).toMatch(message)
  })
})
