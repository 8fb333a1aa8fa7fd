import { formatCidr, networkOf, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf } from '../net/ip-address.ts'
import { macFromBytes, randomMac } from '../net/mac-address.ts'
import { addressAttributes, decodeAddress, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR } from './addresses.ts'
import { decodeAttributes } from '../netlink/attributes.ts'
import { FakeNamespace, type FakeLink } from './fake-namespace.ts'
import type { NetnsHandle } from './link-requests.ts'
import {
  bridgeAttributes,
  bridgePortAttributes,
  IFF_UP,
  linkAttributes,
  RTM_DELLINK,
  RTM_GETLINK,
  RTM_NEWLINK,
  vethAttributes,
  type LinkAttributes,
} from './link.ts'
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, type NetlinkMessage } from '../netlink/message.ts'
import { NetlinkSocket } from '../netlink/netlink-socket.ts'
import {
  decodeRoute,
  encodeRoute,
  RT_TABLE_MAIN,
  RTM_DELROUTE,
  RTM_GETROUTE,
  RTM_NEWROUTE,
  type Route,
} from './routes.ts'
import { decodeRule, encodeRule, RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE, type RoutingRule } from './rules.ts'
import { Rtnetlink } from './rtnetlink.ts'
import { ScriptedKernel, type ScriptedReply } from '../netlink/scripted-kernel.ts'

/** RTNLGRP_*: link, IPv4 and IPv6 address, IPv4 and IPv6 route. */
const groupOf = { link: 1, address: { 4: 5, 6: 9 }, route: { 4: 7, 6: 11 } } as const

/** A bridge's ports have 10-bit numbers, and 0 is not used (net/bridge/br_if.c, find_portno). */
const maxBridgePorts = 1023

/** A refusal of the fake kernel. */
class Refusal extends Error {
  readonly errno: number

  constructor(errno: number, message?: string) {
    super(message)
    this.errno = errno
  }
}

/* asm-generic/errno-base.h and errno.h */
const ENOENT = 2
const ESRCH = 3
const EEXIST = 17
const ENODEV = 19
const EINVAL = 22
const EXFULL = 54
const EOPNOTSUPP = 95
const EADDRNOTAVAIL = 99
const ENETDOWN = 100
const ENETUNREACH = 101
const EHOSTUNREACH = 113

/**
 * A kernel in memory that knows bridges, veth pairs, addresses and routes, speaks rtnetlink's bytes and refuses what the kernel
 * refuses. test/contract/rtnetlink.ts holds it to the real one.
 */
export class FakeRtnetlink {
  readonly #namespaces = new Map<number, FakeNamespace>()
  readonly #kernels: { readonly kernel: ScriptedKernel; readonly namespace: FakeNamespace }[] = []

  /** A namespace with its loopback; hand it to {@link open} and to `createVeth`. */
  createNetns(name: string): NetnsHandle {
    const fd = 1000 + this.#namespaces.size
    this.#namespaces.set(fd, new FakeNamespace(fd))
    return { fd, name }
  }

  /** Opens rtnetlink in a namespace of this kernel. */
  open(netns: NetnsHandle): Rtnetlink {
    const namespace = this.#namespaces.get(netns.fd)
    if (!namespace) throw new Error(`the fake kernel has no namespace ${netns.name ?? netns.fd}`)
    return new Rtnetlink(() => {
      const kernel = new ScriptedKernel((request) => this.#answer(namespace, request))
      this.#kernels.push({ kernel, namespace })
      return new NetlinkSocket(kernel)
    })
  }

  /** Makes every subscriber miss notifications, as when a receive buffer overruns. */
  overrun(): void {
    for (const { kernel } of this.#kernels) if (kernel.groups.size > 0) kernel.overrun()
  }

  #answer(namespace: FakeNamespace, request: NetlinkMessage): readonly ScriptedReply[] {
    try {
      if ((request.flags & NLM_F_DUMP) === NLM_F_DUMP && request.type % 4 === 2) return dump(namespace, request)
      return [...this.#change(namespace, request), { kind: 'ack' }]
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      return [{ kind: 'error', errno: error.errno, ...(error.message !== '' && { message: error.message }) }]
    }
  }

  #change(namespace: FakeNamespace, { type, flags, payload }: NetlinkMessage): ScriptedReply[] {
    switch (type) {
      case RTM_GETLINK: {
        const link = linkOf(namespace, payload)
        return [{ kind: 'answer', type: RTM_NEWLINK, payload: namespace.encodeLink(link) }]
      }
      case RTM_NEWLINK:
        this.#newLink(namespace, flags, payload)
        return []
      case RTM_DELLINK:
        this.#deleteLinks(namespace, payload)
        return []
      case RTM_NEWADDR:
        this.#newAddress(namespace, flags, payload)
        return []
      case RTM_DELADDR:
        this.#deleteAddress(namespace, payload)
        return []
      case RTM_NEWROUTE:
        this.#newRoute(namespace, flags, payload)
        return []
      case RTM_DELROUTE:
        this.#deleteRoute(namespace, payload)
        return []
      case RTM_NEWRULE:
        if (namespace.rules.some((rule) => encodeRule(rule).equals(payload))) throw new Refusal(EEXIST)
        namespace.rules.push(readRule(payload))
        return []
      case RTM_DELRULE:
        if (!namespace.rules.some((rule) => encodeRule(rule).equals(payload))) throw new Refusal(ENOENT)
        namespace.rules = namespace.rules.filter((rule) => !encodeRule(rule).equals(payload))
        return []
      default:
        throw new Refusal(EOPNOTSUPP, `the fake kernel has no message type ${type}`)
    }
  }

  #newLink(namespace: FakeNamespace, flags: number, payload: Buffer): void {
    const attributes = decodeAttributes(linkAttributes, payload.subarray(16))
    const byIndex = namespace.links.get(payload.readInt32LE(4))
    const existing = byIndex ?? namespace.linkByName(attributes.name)
    if (!(flags & NLM_F_CREATE)) {
      if (!existing) throw new Refusal(ENODEV)
      return this.#changeLink(namespace, existing, payload, attributes)
    }
    if (existing && flags & NLM_F_EXCL) throw new Refusal(EEXIST)
    const { kind, data } = attributes.info ?? {}
    const master = masterOf(namespace, attributes.master)
    checkMtu(attributes.mtu)
    const up = (payload.readUInt32LE(8) & IFF_UP) !== 0
    if (kind === 'bridge') {
      const { multicastSnooping = 1 } = decodeAttributes(bridgeAttributes, data ?? new Uint8Array())
      const link = namespace.addLink({
        ...newLinkFields(attributes, kind, up),
        multicastSnooping: multicastSnooping === 1,
      })
      this.#notifyLink(namespace, link)
    } else if (kind === 'veth') {
      const peerBytes = decodeAttributes(vethAttributes, data ?? new Uint8Array()).peer ?? new Uint8Array()
      const peerAttributes = decodeAttributes(linkAttributes, peerBytes.subarray(16))
      const { netnsFd } = peerAttributes
      const peerNamespace = netnsFd === undefined ? namespace : this.#namespaces.get(netnsFd)
      if (!peerNamespace) throw new Refusal(EINVAL)
      const samePlace = peerNamespace === namespace && peerAttributes.name === attributes.name
      if (peerNamespace.linkByName(peerAttributes.name) || samePlace) throw new Refusal(EEXIST)
      checkMtu(peerAttributes.mtu)
      const peer = peerNamespace.addLink(newLinkFields(peerAttributes, kind, false))
      const link = namespace.addLink({ ...newLinkFields(attributes, kind, up), master: master?.index })
      link.peer = { namespace: peerNamespace, link: peer }
      peer.peer = { namespace, link }
      this.#notifyLink(peerNamespace, peer)
      this.#notifyLink(namespace, link)
    } else {
      throw new Refusal(EOPNOTSUPP, 'Unknown device type')
    }
  }

  #changeLink(namespace: FakeNamespace, link: FakeLink, payload: Buffer, attributes: LinkAttributes): void {
    const { name, mtu, master, group, alias, address, info } = attributes
    checkMtu(mtu)
    const taken = name === undefined ? undefined : namespace.linkByName(name)
    if (taken && taken !== link) throw new Refusal(EEXIST)
    if (info?.slaveData && link.master === undefined) throw new Refusal(EINVAL, 'Device is not a slave')
    if (master !== undefined) link.master = masterOf(namespace, master)?.index
    if (info?.slaveData) {
      const { isolated, hairpin, learning } = decodeAttributes(bridgePortAttributes, info.slaveData)
      const { port } = link
      link.port = {
        isolated: isolated === undefined ? port.isolated : isolated === 1,
        hairpin: hairpin === undefined ? port.hairpin : hairpin === 1,
        learning: learning === undefined ? port.learning : learning === 1,
      }
    }
    if (name !== undefined) link.name = name
    if (mtu !== undefined) link.mtu = mtu
    if (group !== undefined) link.group = group
    if (alias !== undefined) link.alias = alias === '' ? undefined : alias
    if (address) link.mac = macFromBytes(address)
    if (payload.readUInt32LE(12) & IFF_UP) this.#setUp(namespace, link, (payload.readUInt32LE(8) & IFF_UP) !== 0)
    this.#notifyLink(namespace, link)
  }

  /** Addresses bring their network's route while the link is up; a link that goes down loses all its routes. */
  #setUp(namespace: FakeNamespace, link: FakeLink, up: boolean): void {
    if (link.up === up) return
    link.up = up
    if (!up) return this.#dropRoutes(namespace, (route) => route.dev === link.index)
    for (const address of namespace.addresses) {
      if (address.link === link.index) this.#addConnectedRoute(namespace, link, address.address, address.noPrefixRoute)
    }
  }

  #deleteLinks(namespace: FakeNamespace, payload: Buffer): void {
    const { group } = decodeAttributes(linkAttributes, payload.subarray(16))
    if (group === undefined) return this.#deleteLink(namespace, linkOf(namespace, payload))
    const members = [...namespace.links.values()].filter((link) => link.group === group)
    if (members.length === 0) throw new Refusal(ENODEV)
    for (const link of members) if (namespace.links.has(link.index)) this.#deleteLink(namespace, link)
  }

  #deleteLink(namespace: FakeNamespace, link: FakeLink): void {
    if (link.kind === undefined) throw new Refusal(EOPNOTSUPP)
    const ends = [{ namespace, link }, ...(link.peer ? [link.peer] : [])]
    for (const { namespace, link } of ends) {
      this.#dropRoutes(namespace, (route) => route.dev === link.index)
      namespace.addresses = namespace.addresses.filter((address) => address.link !== link.index)
      for (const port of namespace.links.values()) if (port.master === link.index) port.master = undefined
      namespace.links.delete(link.index)
      this.#notify(namespace, groupOf.link, RTM_DELLINK, namespace.encodeLink(link))
    }
  }

  #newAddress(namespace: FakeNamespace, flags: number, payload: Buffer): void {
    const { label } = decodeAttributes(addressAttributes, payload.subarray(8))
    const address = decodeAddress(payload)
    const link = namespace.links.get(address.link)
    if (!link) throw new Refusal(ENODEV)
    if (namespace.findAddress(address.link, address.address)) {
      if (flags & NLM_F_EXCL || !(flags & NLM_F_REPLACE)) throw new Refusal(EEXIST)
      return
    }
    const isIpv4 = ipFamilyOf(address.address.address) === 4
    const added = { ...address, permanent: true, label: isIpv4 ? (label ?? link.name) : undefined }
    namespace.addresses.push(added)
    this.#notify(namespace, groupOf.address[isIpv4 ? 4 : 6], RTM_NEWADDR, namespace.encodeAddress(added))
    if (link.up) this.#addConnectedRoute(namespace, link, address.address, address.noPrefixRoute)
  }

  #deleteAddress(namespace: FakeNamespace, payload: Buffer): void {
    const { link, address } = decodeAddress(payload)
    if (!namespace.links.has(link)) throw new Refusal(ENODEV)
    const found = namespace.findAddress(link, address)
    if (!found) throw new Refusal(EADDRNOTAVAIL)
    namespace.addresses = namespace.addresses.filter((other) => other !== found)
    const family = ipFamilyOf(address.address)
    this.#notify(namespace, groupOf.address[family], RTM_DELADDR, namespace.encodeAddress(found))
    const network = formatCidr(networkOf(address))
    this.#dropRoutes(
      namespace,
      (route) => route.dev === link && route.protocol === 2 && formatCidr(route.destination) === network,
    )
  }

  #addConnectedRoute(namespace: FakeNamespace, link: FakeLink, address: Cidr, noPrefixRoute: boolean): void {
    const isIpv4 = ipFamilyOf(address.address) === 4
    if (noPrefixRoute || address.prefix === (isIpv4 ? 32 : 128)) return
    this.#addRoute(namespace, {
      family: isIpv4 ? 4 : 6,
      destination: networkOf(address),
      type: 'unicast',
      table: RT_TABLE_MAIN,
      dev: link.index,
      via: undefined,
      src: isIpv4 ? address.address : undefined,
      scope: isIpv4 ? 'link' : 'global',
      metric: isIpv4 ? undefined : 256,
      protocol: 2,
    })
  }

  #newRoute(namespace: FakeNamespace, flags: number, payload: Buffer): void {
    const wanted = decodeRoute(payload)
    if (!wanted) throw new Refusal(EINVAL)
    const needsLink = wanted.type === 'unicast'
    const dev = needsLink ? (wanted.dev ?? namespace.linkTowards(wanted.via)?.index) : undefined
    if (needsLink) checkNextHop(namespace, wanted, dev)
    const metric = wanted.metric ?? (wanted.family === 6 ? 1024 : undefined)
    // The kernel ties IPv6 routes without a link to the loopback.
    const route = { ...wanted, dev: dev ?? (wanted.family === 6 ? 1 : undefined), metric }
    const same = namespace.routes.find((other) => keyOf(other) === keyOf(route))
    if (same && flags & NLM_F_EXCL) throw new Refusal(EEXIST)
    if (same) namespace.routes = namespace.routes.filter((other) => other !== same)
    this.#addRoute(namespace, route)
  }

  #addRoute(namespace: FakeNamespace, route: Route): void {
    namespace.routes.push(route)
    this.#notify(namespace, groupOf.route[route.family], RTM_NEWROUTE, encodeRoute(route))
  }

  #deleteRoute(namespace: FakeNamespace, payload: Buffer): void {
    // RTN_UNSPEC and protocol 0 in a deletion mean "any", which the decoder has no word for.
    const anyType = payload[7] === 0
    const copy = Buffer.from(payload)
    if (anyType) copy[7] = 1
    const wanted = decodeRoute(copy)
    const found = namespace.routes.find(
      (route) =>
        wanted !== undefined &&
        formatCidr(route.destination) === formatCidr(wanted.destination) &&
        route.table === wanted.table &&
        (anyType || route.type === wanted.type) &&
        (wanted.protocol === 0 || route.protocol === wanted.protocol) &&
        (wanted.dev === undefined || route.dev === wanted.dev) &&
        (wanted.via === undefined || route.via === wanted.via) &&
        (wanted.metric === undefined || route.metric === wanted.metric),
    )
    if (!found) throw new Refusal(ESRCH)
    this.#dropRoutes(namespace, (route) => route === found)
  }

  #dropRoutes(namespace: FakeNamespace, which: (route: Route) => boolean): void {
    const dropped = namespace.routes.filter(which)
    namespace.routes = namespace.routes.filter((route) => !dropped.includes(route))
    for (const route of dropped) {
      this.#notify(namespace, groupOf.route[route.family], RTM_DELROUTE, encodeRoute(route))
    }
  }

  #notifyLink(namespace: FakeNamespace, link: FakeLink): void {
    this.#notify(namespace, groupOf.link, RTM_NEWLINK, namespace.encodeLink(link))
  }

  #notify(namespace: FakeNamespace, group: number, type: number, payload: Buffer): void {
    for (const { kernel, namespace: where } of this.#kernels) {
      if (where === namespace) setImmediate(() => kernel.notify(group, type, payload))
    }
  }
}

function dump(namespace: FakeNamespace, { type, payload }: NetlinkMessage): ScriptedReply[] {
  const parts = (kind: number, payloads: readonly Buffer[]): ScriptedReply[] => [
    ...payloads.map((payload) => ({ kind: 'part', type: kind, payload }) as const),
    { kind: 'done' },
  ]
  if (type === RTM_GETLINK) {
    return parts(
      RTM_NEWLINK,
      [...namespace.links.values()].map((link) => namespace.encodeLink(link)),
    )
  }
  if (type === RTM_GETADDR) {
    return parts(
      RTM_NEWADDR,
      namespace.addresses.map((address) => namespace.encodeAddress(address)),
    )
  }
  if (type === RTM_GETROUTE) {
    const family = payload[0] === 2 ? 4 : 6
    const routes = namespace.routes.filter((route) => route.family === family)
    return parts(
      RTM_NEWROUTE,
      routes.map((route) => encodeRoute(route)),
    )
  }
  if (type === RTM_GETRULE) return parts(RTM_NEWRULE, namespace.rules.map(encodeRule))
  throw new Refusal(EOPNOTSUPP, `the fake kernel has no dump of type ${type}`)
}

function readRule(payload: Buffer): RoutingRule {
  const rule = decodeRule(payload)
  if (!rule) throw new Refusal(EINVAL)
  return rule
}

function linkOf(namespace: FakeNamespace, payload: Buffer): FakeLink {
  const index = payload.readInt32LE(4)
  const { name } = decodeAttributes(linkAttributes, payload.subarray(16))
  const link = index > 0 ? namespace.links.get(index) : namespace.linkByName(name)
  if (!link) throw new Refusal(ENODEV)
  return link
}

/** The bridge to become a port of; undefined for index 0, which means none. */
function masterOf(namespace: FakeNamespace, index: number | undefined): FakeLink | undefined {
  if (index === undefined || index === 0) return undefined
  const master = namespace.links.get(index)
  if (!master) throw new Refusal(EINVAL)
  if (master.kind !== 'bridge') throw new Refusal(EOPNOTSUPP)
  const ports = [...namespace.links.values()].filter((link) => link.master === index).length
  if (ports >= maxBridgePorts) throw new Refusal(EXFULL)
  return master
}

/** ETH_MIN_MTU and ETH_MAX_MTU (include/uapi/linux/if_ether.h), as bridge and veth have them. */
function checkMtu(mtu: number | undefined): void {
  if (mtu === undefined) return
  if (mtu < 68) throw new Refusal(EINVAL, 'mtu less than device minimum')
  if (mtu > 65_535) throw new Refusal(EINVAL, 'mtu greater than device maximum')
}

function checkNextHop(namespace: FakeNamespace, route: Route, dev: number | undefined): void {
  if (route.via !== undefined && !namespace.linkTowards(route.via)) {
    const is4 = route.family === 4
    throw new Refusal(is4 ? ENETUNREACH : EHOSTUNREACH, is4 ? 'Nexthop has invalid gateway' : undefined)
  }
  const link = dev === undefined ? undefined : namespace.links.get(dev)
  if (!link) throw new Refusal(ENODEV)
  if (!link.up) throw new Refusal(ENETDOWN, 'Device for nexthop is not up')
}

function keyOf(route: Route): string {
  return `${route.table} ${formatCidr(route.destination)} ${route.metric ?? 0}`
}

function newLinkFields(attributes: LinkAttributes, kind: string, up: boolean): Omit<FakeLink, 'index'> {
  return {
    name: attributes.name ?? '',
    kind,
    mac: attributes.address ? macFromBytes(attributes.address) : randomMac(),
    mtu: attributes.mtu ?? 1500,
    group: attributes.group ?? 0,
    up,
    master: undefined,
    alias: undefined,
    port: { isolated: false, hairpin: false, learning: true },
    multicastSnooping: true,
    peer: undefined,
  }
}
