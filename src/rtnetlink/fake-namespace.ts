import { cidrContains, formatCidr, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import { macToBytes, parseMac, type MacAddress } from '../net/mac-address.ts'
import { addressAttributes, encodeAddressFlags, type LinkAddress } from './addresses.ts'
import { encodeAttributes } from '../netlink/attributes.ts'
import { addressFamilyNumbers, routeScopes } from '../netlink/families.ts'
import {
  bridgeAttributes,
  bridgePortAttributes,
  IFF_LOOPBACK,
  IFF_LOWER_UP,
  IFF_UP,
  linkPayload,
  operstates,
  type BridgePortOptions,
} from './link.ts'
import type { Route } from './routes.ts'
import type { RoutingRule } from './rules.ts'

/** A link of the fake kernel. */
export interface FakeLink {
  readonly index: number
  name: string
  readonly kind: string | undefined
  mac: MacAddress
  mtu: number
  group: number
  up: boolean
  master: number | undefined
  alias: string | undefined
  port: Required<BridgePortOptions>
  readonly multicastSnooping: boolean
  /** The other end of a veth. */
  peer: { readonly namespace: FakeNamespace; readonly link: FakeLink } | undefined
}

/** What one network namespace of the fake kernel holds, and how it reads as rtnetlink messages. */
export class FakeNamespace {
  readonly id: number
  readonly links = new Map<number, FakeLink>()
  addresses: LinkAddress[] = []
  routes: Route[] = []
  rules: RoutingRule[] = []
  #nextIndex = 1

  constructor(id: number) {
    this.id = id
    this.addLink({
      name: 'lo',
      kind: undefined,
      mac: parseMac('00:00:00:00:00:00'),
      mtu: 65_536,
      group: 0,
      up: false,
      master: undefined,
      alias: undefined,
      port: { isolated: false, hairpin: false, learning: true },
      multicastSnooping: false,
      peer: undefined,
    })
  }

  addLink(fields: Omit<FakeLink, 'index'>): FakeLink {
    const link = { ...fields, index: this.#nextIndex++ }
    this.links.set(link.index, link)
    return link
  }

  linkByName(name: string | undefined): FakeLink | undefined {
    return name === undefined ? undefined : [...this.links.values()].find((link) => link.name === name)
  }

  findAddress(link: number, address: Cidr): LinkAddress | undefined {
    return this.addresses.find((own) => own.link === link && formatCidr(own.address) === formatCidr(address))
  }

  /** The link that has `ip` as a neighbour; undefined when no link that is up has. */
  linkTowards(ip: IpAddress | undefined): FakeLink | undefined {
    const route = ip && this.routes.find((route) => route.via === undefined && cidrContains(route.destination, ip))
    return route?.dev === undefined ? undefined : this.links.get(route.dev)
  }

  encodeLink(link: FakeLink): Buffer {
    const carrier = link.up && (link.peer === undefined || link.peer.link.up)
    const loopback = link.kind === undefined
    const flags = (link.up ? IFF_UP : 0) | (carrier ? IFF_LOWER_UP : 0) | (loopback ? IFF_LOOPBACK : 0)
    const { port } = link
    return linkPayload(
      { index: link.index, flags },
      {
        name: link.name,
        address: macToBytes(link.mac),
        mtu: link.mtu,
        link: link.peer?.link.index,
        linkNetnsId: link.peer && link.peer.namespace !== this ? link.peer.namespace.id : undefined,
        master: link.master,
        operstate: loopback ? 0 : operstates.indexOf(carrier ? 'up' : 'down'),
        group: link.group,
        alias: link.alias,
        info: loopback
          ? undefined
          : {
              kind: link.kind,
              data:
                link.kind === 'bridge'
                  ? encodeAttributes(bridgeAttributes, { multicastSnooping: Number(link.multicastSnooping) })
                  : undefined,
              ...(link.master !== undefined && {
                slaveKind: 'bridge',
                slaveData: encodeAttributes(bridgePortAttributes, {
                  isolated: Number(port.isolated),
                  hairpin: Number(port.hairpin),
                  learning: Number(port.learning),
                }),
              }),
            },
      },
    )
  }

  encodeAddress(address: LinkAddress): Buffer {
    const header = Buffer.alloc(8)
    const family = ipFamilyOf(address.address.address)
    header[0] = addressFamilyNumbers[family]
    header[1] = address.address.prefix
    header[3] = routeScopes[address.scope]
    header.writeUInt32LE(address.link, 4)
    const attributes = encodeAttributes(addressAttributes, {
      address: address.address.address,
      local: family === 4 ? address.address.address : undefined,
      label: address.label,
      flags: encodeAddressFlags(address),
    })
    return Buffer.concat([header, attributes])
  }
}
