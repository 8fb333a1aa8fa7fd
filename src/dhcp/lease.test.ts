import { expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { formatLease, leaseFromAck, parseLease } from './lease.ts'
import type { DhcpMessage } from './message.ts'

function leaseWith(domain: string): ReturnType<typeof leaseFromAck> {
  const server = parseIp('192.0.2.1')
  const ack = {
    yiaddr: parseIp('192.0.2.9'),
    options: { server, subnetMask: parseIp('255.255.255.0'), leaseSeconds: 600, domain },
  } as unknown as DhcpMessage
  return leaseFromAck(ack, { serverMac: parseMac('02:00:00:00:00:01'), askedAt: 0 })
}

test.each(['lan', 'lan.example.org', 'lan.example.org.', 'a.example.org b.example.org', 'x_y.example'])(
  'leaseFromAck() takes the domain %j',
  (domain) => {
    expect(leaseWith(domain).domain).toBe(domain)
    expect(parseLease(formatLease(leaseWith(domain)))?.domain).toBe(domain)
  },
)

test.each(['lan\nnameserver 203.0.113.6', 'lan\n', 'a\tb', ' lan', 'a..b', 'lan;reboot', 'é.example', '#'])(
  'leaseFromAck() leaves out %j, which would be more than names in a resolv.conf',
  (domain) => {
    expect(leaseWith(domain).domain).toBeUndefined()
  },
)
