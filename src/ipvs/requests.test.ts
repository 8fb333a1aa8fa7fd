import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { decodeAttributes } from '../netlink/attributes.ts'
import { splitMessages } from '../netlink/message.ts'
import { commandAttributes } from './ipvs-messages.ts'
import type { Command, RealServer, VirtualAddress } from './objects.ts'
import { readInfo, readReal, readTimeouts, readVirtual } from './read-servers.ts'
import { commandRequest, flushAll, netmaskBytes, prefixFromNetmask, setTimeouts, type IpvsRequest } from './requests.ts'

/** What ipvsadm 1.31 sends, and what Linux 6.1 answers; scripts/capture-ipvs.ts records it. */
const fixtures = JSON.parse(readFileSync(new URL('fixtures/ipvsadm-requests.json', import.meta.url), 'utf8')) as {
  readonly requests: readonly { readonly command: string; readonly hex: string }[]
  readonly answers: Readonly<Record<'virtuals' | 'reals' | 'timeouts' | 'info', readonly string[]>>
}

const http: VirtualAddress = { ip: parseIp('10.96.0.1'), port: parsePort(80), protocol: 'tcp' }
const web: VirtualAddress = { ...http, ip: parseIp('10.96.0.2') }
const dns: VirtualAddress = { ...http, port: parsePort(53), protocol: 'udp' }
const https6: VirtualAddress = { ip: parseIp('fd00::1'), port: parsePort(443), protocol: 'tcp' }
const mark: VirtualAddress = { mark: 7, family: 4 }
const a: RealServer = { ip: parseIp('10.0.0.1'), port: parsePort(8080), weight: 3 }
const b: RealServer = {
  ip: parseIp('10.0.0.2'),
  port: parsePort(8080),
  weight: 1,
  upperThreshold: 100,
  lowerThreshold: 50,
}

const ours: readonly { readonly command: string; readonly is: Command | IpvsRequest }[] = [
  { command: '-A -t 10.96.0.1:80 -s rr', is: { op: 'add-virtual', virtual: { at: http, scheduler: 'rr' } } },
  {
    command: '-A -u 10.96.0.1:53 -s sh -b sh-fallback,sh-port -o',
    is: {
      op: 'add-virtual',
      virtual: { at: dns, scheduler: 'sh', fallback: true, hashPort: true, onePacket: true },
    },
  },
  {
    command: '-A -t [fd00::1]:443 -s mh -p 10800',
    is: { op: 'add-virtual', virtual: { at: https6, scheduler: 'mh', persistence: { seconds: 10_800 } } },
  },
  {
    command: '-A -t 10.96.0.2:80 -s wlc -p 300 -M 255.255.255.0',
    is: { op: 'add-virtual', virtual: { at: web, scheduler: 'wlc', persistence: { seconds: 300, prefix: 24 } } },
  },
  {
    command: '-A -f 7 -s rr -p 600',
    is: { op: 'add-virtual', virtual: { at: mark, scheduler: 'rr', persistence: { seconds: 600 } } },
  },
  {
    command: '-A -f 7 -6 -s wrr',
    is: { op: 'add-virtual', virtual: { at: { ...mark, family: 6 }, scheduler: 'wrr' } },
  },
  { command: '-E -t 10.96.0.1:80 -s wrr', is: { op: 'set-virtual', virtual: { at: http, scheduler: 'wrr' } } },
  { command: '-a -t 10.96.0.1:80 -r 10.0.0.1:8080 -m -w 3', is: { op: 'add-real', at: http, real: a } },
  { command: '-a -t 10.96.0.1:80 -r 10.0.0.2:8080 -m -x 100 -y 50', is: { op: 'add-real', at: http, real: b } },
  {
    command: '-a -t 10.96.0.2:80 -r 10.0.0.3:80 -g -w 1',
    is: {
      op: 'add-real',
      at: web,
      real: { ip: parseIp('10.0.0.3'), port: parsePort(80), weight: 1, forwarding: 'route' },
    },
  },
  {
    command: '-a -t 10.96.0.2:80 -r 10.0.0.4:80 -i -w 1',
    is: {
      op: 'add-real',
      at: web,
      real: { ip: parseIp('10.0.0.4'), port: parsePort(80), weight: 1, forwarding: 'tunnel' },
    },
  },
  {
    command: '-a -t [fd00::1]:443 -r [fd00:1::1]:8443 -m -w 1',
    is: { op: 'add-real', at: https6, real: { ip: parseIp('fd00:1::1'), port: parsePort(8443), weight: 1 } },
  },
  {
    command: '-a -f 7 -r 10.0.0.1:0 -m -w 1',
    is: { op: 'add-real', at: mark, real: { ip: a.ip, port: 0, weight: 1 } },
  },
  {
    command: '-e -t 10.96.0.1:80 -r 10.0.0.1:8080 -m -w 0',
    is: { op: 'set-real', at: http, real: { ...a, weight: 0 } },
  },
  { command: '--set 900 120 300', is: setTimeouts({ tcp: 900, tcpFin: 120, udp: 300 }) },
  { command: '-d -t 10.96.0.1:80 -r 10.0.0.2:8080', is: { op: 'delete-real', at: http, real: b } },
  { command: '-D -t 10.96.0.2:80', is: { op: 'delete-virtual', at: web } },
  { command: '-D -f 7 -6', is: { op: 'delete-virtual', at: { ...mark, family: 6 } } },
  { command: '-C', is: flushAll() },
]

// ipvsadm also sends what the kernel does not look at: tunnel options, and settings of what is only named.
describe('commandRequest() asks for what ipvsadm asks for', () => {
  test.each(ours)('ipvsadm $command', ({ command, is }) => {
    const fixture = fixtures.requests.find((one) => one.command === `ipvsadm ${command}`)
    const [theirs] = splitMessages(Buffer.from(fixture?.hex ?? '', 'hex'))
    const { payload } = 'op' in is ? commandRequest(is) : is
    // struct genlmsghdr: the command and the version.
    expect(payload.subarray(0, 4).toString()).toBe(theirs?.payload.subarray(0, 4).toString())
    const wanted = decodeAttributes(commandAttributes, theirs?.payload.subarray(4) ?? Buffer.alloc(0))
    expect(wanted).toMatchObject(decodeAttributes(commandAttributes, payload.subarray(4)))
  })

  test('every recorded command is compared', () => {
    expect(ours.map(({ command }) => `ipvsadm ${command}`)).toEqual(fixtures.requests.map(({ command }) => command))
  })
})

describe('answers of Linux 6.1', () => {
  const payloads = (kind: keyof typeof fixtures.answers): Buffer[] =>
    fixtures.answers[kind].map((hex) => Buffer.from(hex, 'hex'))

  test('readVirtual() reads every virtual server that ipvsadm made', () => {
    const found = payloads('virtuals').map((payload) => readVirtual(payload))
    expect(found).toHaveLength(6)
    const wrr = { at: http, scheduler: 'wrr' }
    const others = ours.slice(1, 6).flatMap(({ is }) => ('op' in is && 'virtual' in is ? [is.virtual] : []))
    for (const virtual of [wrr, ...others]) expect(found).toContainEqual(expect.objectContaining(virtual))
  })

  test('readReal() reads every real server, with its counts', () => {
    const found = payloads('reals').map((payload) => readReal(payload, payload.includes(0xfd) ? 6 : 4))
    expect(found.map((real) => `${real?.ip} ${real?.weight} ${real?.forwarding ?? ''}`).sort()).toEqual([
      '10.0.0.1 0 ',
      '10.0.0.1 1 ',
      '10.0.0.3 1 route',
      '10.0.0.4 1 tunnel',
      'fd00:1::1 1 ',
    ])
    expect(found[0]?.counts).toEqual({ active: 0, inactive: 0, persistent: 0 })
  })

  test('readTimeouts(), readInfo()', () => {
    expect(payloads('timeouts').map(readTimeouts)).toEqual([{ tcp: 900, tcpFin: 120, udp: 300 }])
    expect(payloads('info').map(readInfo)).toEqual([{ version: '1.2.1', connectionTableSize: 4096 }])
  })
})

test.each([0, 1, 8, 24, 31, 32])(
  'netmaskBytes(), prefixFromNetmask(): a mask of %i bits is read as it was written',
  (bits) => {
    expect(prefixFromNetmask(netmaskBytes(bits, 4), 4)).toBe(bits)
    expect(prefixFromNetmask(netmaskBytes(bits + 96, 6), 6)).toBe(bits + 96)
  },
)
