import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { addAddress, addressAttributes, deleteAddress, RTM_DELADDR, RTM_NEWADDR } from './addresses.ts'
import { decodeAttributes, type AttributeTable } from '../netlink/attributes.ts'
import { createBridge, createVeth, deleteLink, deleteLinkGroup, setLink } from './link-requests.ts'
import {
  bridgeAttributes,
  bridgePortAttributes,
  linkAttributes,
  RTM_DELLINK,
  RTM_NEWLINK,
  vethAttributes,
} from './link.ts'
import { NLM_F_ACK, NLM_F_REQUEST, splitMessages } from '../netlink/message.ts'
import { neighbourAttributes, replaceNeighbour, RTM_NEWNEIGH } from './neighbours.ts'
import type { NetlinkRequest } from '../netlink/netlink-socket.ts'
import { addRoute, deleteRoute, replaceRoute, routeAttributes, RTM_DELROUTE, RTM_NEWROUTE } from './routes.ts'

/** What iproute2 6.1 sends; scripts/capture-netlink.ts records it. The links' indexes there: br0 2, v0 3; the peer's namespace fd 4. */
const fixtures = JSON.parse(
  readFileSync(new URL('fixtures/iproute2-requests.json', import.meta.url), 'utf8'),
) as readonly { readonly command: string; readonly hex: string }[]

const br0 = 2
const v0 = 3
const ours: readonly { readonly command: string; readonly request: NetlinkRequest }[] = [
  {
    command: 'link add name br0',
    request: createBridge({
      name: 'br0',
      mac: parseMac('02:00:00:00:00:01'),
      mtu: 1400,
      group: 7,
      multicastSnooping: false,
      nfCallIptables: false,
    }),
  },
  {
    command: 'link add name v0',
    request: createVeth({
      name: 'v0',
      mtu: 1400,
      master: br0,
      group: 7,
      peer: { name: 'eth0', mac: parseMac('02:00:00:00:00:02'), netns: { fd: 4 } },
    }),
  },
  {
    command: 'link set dev v0 type bridge_slave',
    request: setLink(v0, { hairpin: true, learning: false, isolated: true }),
  },
  { command: 'link set dev v0 alias', request: setLink(v0, { alias: 'web-1' }) },
  { command: 'link set dev v0 down', request: setLink(v0, { up: false }) },
  { command: 'link set dev v0 name', request: setLink(v0, { name: 'w0' }) },
  { command: 'link set dev w0 nomaster', request: setLink(v0, { master: 0 }) },
  { command: 'link set dev w0 up', request: setLink(v0, { up: true }) },
  { command: 'addr add 10.9.0.1/24', request: addAddress({ link: br0, address: parseCidr('10.9.0.1/24') }) },
  { command: 'addr add fd00::1/64', request: addAddress({ link: br0, address: parseCidr('fd00::1/64') }) },
  {
    command: 'addr add 10.9.0.2/32',
    request: addAddress({
      link: br0,
      address: parseCidr('10.9.0.2/32'),
      scope: 'link',
      label: 'br0:x',
      noPrefixRoute: true,
    }),
  },
  {
    command: 'route add 10.10.0.0/16 via',
    request: addRoute({ destination: parseCidr('10.10.0.0/16'), via: parseIp('10.9.0.7'), dev: br0 }),
  },
  {
    command: 'route replace default via fd00::2',
    request: replaceRoute({ destination: parseCidr('::/0'), via: parseIp('fd00::2'), dev: br0, metric: 50 }),
  },
  {
    command: 'route add blackhole',
    request: addRoute({ destination: parseCidr('10.11.0.0/16'), type: 'blackhole', table: 1000 }),
  },
  {
    command: 'route add 10.12.0.0/16 dev',
    request: addRoute({ destination: parseCidr('10.12.0.0/16'), dev: br0, src: parseIp('10.9.0.1') }),
  },
  { command: 'route del 10.10.0.0/16', request: deleteRoute({ destination: parseCidr('10.10.0.0/16') }) },
  {
    command: 'neigh replace 10.9.0.7',
    request: replaceNeighbour({ link: br0, address: parseIp('10.9.0.7'), mac: parseMac('02:00:00:00:00:07') }),
  },
  { command: 'addr del 10.9.0.1/24', request: deleteAddress(br0, parseCidr('10.9.0.1/24')) },
  { command: 'link del dev w0', request: deleteLink(v0) },
  { command: 'link del group 7', request: deleteLinkGroup(7) },
]

describe('request builders', () => {
  test.each(ours)('$request.name: says what `ip $command` says', ({ command, request }) => {
    const fixture = fixtures.find((fixture) => fixture.command.startsWith(`ip ${command}`))
    const [theirs] = splitMessages(Buffer.from(fixture?.hex ?? '', 'hex'))
    expect(theirs).toBeDefined()
    const flags = NLM_F_REQUEST | NLM_F_ACK | (request.flags ?? 0)
    expect(meaningOf(request.type, flags, request.payload)).toEqual(
      meaningOf(theirs!.type, theirs!.flags, theirs!.payload),
    )
  })

  test('fixtures: each recorded command has its row here', () => {
    expect(ours).toHaveLength(fixtures.length)
  })

  test.each([
    {
      what: 'a link name of 16 bytes',
      build: () => createBridge({ name: 'a'.repeat(16), mac: parseMac('02:00:00:00:00:01') }),
    },
    { what: 'a link name with a slash', build: () => createVeth({ name: 'a/b', peer: { name: 'c' } }) },
    { what: 'a peer name with a percent sign', build: () => createVeth({ name: 'a', peer: { name: 'eth%d' } }) },
    { what: 'a rename of a link that is given by name', build: () => setLink('a', { name: 'b' }) },
    { what: 'an alias of 256 bytes', build: () => setLink(1, { alias: 'x'.repeat(256) }) },
    { what: 'the deletion of group 0, which every link is in', build: () => deleteLinkGroup(0) },
  ])('builders: refuse $what', ({ build }) => {
    expect(build).toThrow(/link|group/)
  })
})

const families: Readonly<Record<number, { header: number; table: AttributeTable }>> = {
  [RTM_NEWLINK]: { header: 16, table: linkAttributes },
  [RTM_DELLINK]: { header: 16, table: linkAttributes },
  [RTM_NEWADDR]: { header: 8, table: addressAttributes },
  [RTM_DELADDR]: { header: 8, table: addressAttributes },
  [RTM_NEWROUTE]: { header: 12, table: routeAttributes },
  [RTM_DELROUTE]: { header: 12, table: routeAttributes },
  [RTM_NEWNEIGH]: { header: 12, table: neighbourAttributes },
}

/** A message taken apart, with the two things levelled that can be said in two places. */
function meaningOf(type: number, flags: number, payload: Uint8Array): object {
  const family = families[type]
  if (!family) throw new Error(`no table for message type ${type}`)
  const header = Buffer.from(payload.subarray(0, family.header))
  const attributes: Record<string, unknown> = { ...decodeAttributes(family.table, payload.subarray(family.header)) }
  if (family.table === addressAttributes) {
    // The low 8 address flags: in the header or in IFA_FLAGS.
    attributes['flags'] ??= header[2]
    header[2] = 0
  }
  // Tables up to 255: in the header, and RTA_TABLE may repeat it.
  if (family.table === routeAttributes && attributes['table'] === header[4]) delete attributes['table']
  if (family.table === routeAttributes && attributes['table'] !== undefined) header[4] = 0
  const { data, slaveData, kind } = (attributes['info'] ?? {}) as {
    data?: Uint8Array
    slaveData?: Uint8Array
    kind?: string
  }
  const peer = kind === 'veth' && data ? decodeAttributes(vethAttributes, data).peer : undefined
  return {
    type,
    flags,
    header: header.toString('hex'),
    // ip calls a bridge's port a link of kind `bridge_slave`; the kernel only looks at the port data.
    attributes: { ...attributes, info: kind === 'bridge_slave' ? undefined : kind },
    bridge: kind === 'bridge' && data ? decodeAttributes(bridgeAttributes, data) : undefined,
    port: slaveData && decodeAttributes(bridgePortAttributes, slaveData),
    peer: peer && decodeAttributes(linkAttributes, peer.subarray(16)),
  }
}
