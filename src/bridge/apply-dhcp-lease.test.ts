import { expect, test } from 'vitest'
import { parseLease, type DhcpLease } from '../dhcp/lease.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { routesOfLease } from './apply-dhcp-lease.ts'

const router = parseIp('10.0.0.1')
const zero = parseIp('0.0.0.0')

function lease(address: string, fields: Pick<DhcpLease, 'routers' | 'routes'>): DhcpLease {
  const mac = '02:00:00:00:00:01'
  const times = { obtainedAt: 0, renewAfter: 1, rebindAfter: 2, expiresAfter: 3 }
  const text = { address: parseCidr(address), dnsServers: [], server: router, serverMac: mac, ...times, ...fields }
  return parseLease(JSON.stringify(text)) ?? expect.fail('no lease')
}

const route = (destination: string, gateway: IpAddress): DhcpLease['routes'][number] => {
  return { destination: parseCidr(destination), gateway }
}

test.each([
  { what: 'no routes', of: lease('10.0.0.9/24', { routers: [], routes: [] }), expected: [] },
  {
    what: 'the first router as the default route',
    of: lease('10.0.0.9/24', { routers: [router, parseIp('10.0.0.2')], routes: [] }),
    expected: [{ destination: parseCidr('0.0.0.0/0'), via: router, onlink: false }],
  },
  {
    what: 'a router outside of a single address as a neighbour',
    of: lease('10.0.0.9/32', { routers: [router], routes: [] }),
    expected: [{ destination: parseCidr('0.0.0.0/0'), via: router, onlink: true }],
  },
  {
    what: 'routes without gateway first, for others may need them',
    of: lease('10.0.0.9/24', { routers: [], routes: [route('0.0.0.0/0', router), route('10.9.0.0/16', zero)] }),
    expected: [
      { destination: parseCidr('10.9.0.0/16') },
      { destination: parseCidr('0.0.0.0/0'), via: router, onlink: false },
    ],
  },
])('routesOfLease: $what', ({ of, expected }) => {
  const own = { src: parseIp('10.0.0.9'), protocol: 16 }
  expect(routesOfLease(of)).toEqual(expected.map((fields) => ({ ...own, ...fields })))
})
