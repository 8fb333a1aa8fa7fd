import type { ObjectKey } from '../model/object-key.ts'
import { cidrContains, cidrFamily, formatCidr } from '../net/cidr.ts'
import { isLoopback, ipFamilyOf, parseIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'
import { ownerOf, type CompiledServices, type OwnedFrontend, type ProxySettings } from './compile-services.ts'
import type { Frontend } from './frontends.ts'
import type { Slots } from './slots.ts'

/** Where node ports answer the node's own processes, beside its other addresses. */
export const loopbackAddresses: Readonly<Record<IpFamily, IpAddress>> = { 4: parseIp('127.0.0.1'), 6: parseIp('::1') }

/** The first packet of a connection, as this node meets it. */
export interface Packet {
  readonly protocol: Protocol
  readonly source: IpAddress
  readonly destination: IpAddress
  readonly port: Port
  readonly origin: Origin
  /** The destination is an address of this node (loopback included). */
  readonly toNode: boolean
}

/** Where a packet comes from: a pod of this node (as far as the settings can tell), a process of the node, or elsewhere. */
export type Origin = 'pod' | 'node' | 'outside'

/** What becomes of a connection. Every mode must come to the same; tests compare them with this. */
export type Decision =
  /** No business of ours: it goes where it would have gone. */
  | { readonly kind: 'pass'; readonly why: string }
  | {
      readonly kind: 'reject' | 'drop'
      readonly why: string
      readonly service: ObjectKey | undefined
      readonly frontend: Frontend | undefined
      /** Because of source ranges: endpoints have no part in it. */
      readonly sourceRefused?: true
    }
  | {
      readonly kind: 'balance'
      readonly service: ObjectKey
      readonly frontend: Frontend
      /** Which of the frontend's two views counts for this client. */
      readonly view: 'verdict' | 'outside'
      readonly slots: Slots
      /** The endpoint sees the node's address. An endpoint that is balanced back to itself is masqueraded in any case. */
      readonly masquerade: boolean
    }

/** Where a packet from `source` comes from. `iif` is the interface that it came in at; undefined: the node made it. */
export function originOf(settings: ProxySettings, source: IpAddress, iif: string | undefined): Origin {
  if (iif === undefined) return 'node'
  const { localInterface, localPods } = settings
  if (localInterface) {
    const { name, prefix } = localInterface
    return (prefix ? iif.startsWith(name) : iif === name) ? 'pod' : 'outside'
  }
  return localPods.some((pods) => cidrContains(pods, source)) ? 'pod' : 'outside'
}

/**
 * Decides as the rules do: source ranges, then the frontend, then unused ports of cluster IPs, unused addresses of the
 * Service ranges, and ports of the node (kube-proxy's nftables mode; see docs/packet-path.md).
 */
export function decide(services: CompiledServices, packet: Packet): Decision {
  const { settings } = services
  const family = ipFamilyOf(packet.destination)
  const asked = `${packet.port}/${packet.protocol.toUpperCase()}`
  const vip = ownerOf(services, `${packet.destination} ${asked}`)
  if (vip) return decideAt(services, vip, packet)
  const clusterIp = hasClusterIp(services, packet.destination)
  if (clusterIp !== undefined) {
    const why = `${packet.destination} is the cluster IP of ${clusterIp}, which has no port ${asked}`
    return { kind: 'reject', why, service: clusterIp, frontend: undefined }
  }
  if (packet.toNode) {
    const nodePort = ownerOf(services, `node-port-${family} ${asked}`)
    if (!nodePort) return { kind: 'pass', why: `no Service has asked for ${asked} of the node` }
    const why = whyNoNodePort(settings, packet, family)
    return why === undefined ? decideAt(services, nodePort, packet) : { kind: 'pass', why }
  }
  const range = services.serviceCIDRs.find((cidr) => cidrContains(cidr, packet.destination))
  if (range) {
    const why = `${packet.destination} is in the Service range ${formatCidr(range)}, and no Service has it`
    return { kind: 'drop', why, service: undefined, frontend: undefined }
  }
  return { kind: 'pass', why: `no Service has ${packet.destination} port ${asked}` }
}

/** Whether clients of the frontend keep their source address, by where they come from. */
export function isMasqueraded(frontend: Frontend, origin: Origin, settings: ProxySettings): boolean {
  switch (frontend.masquerade) {
    case 'always':
      return true
    case 'node-only':
      return origin === 'node'
    case 'unless-pod': {
      const canTell =
        settings.localInterface !== undefined || settings.localPods.some((pods) => cidrFamily(pods) === frontend.family)
      return settings.masqueradeAll || (canTell && origin !== 'pod')
    }
    default:
      return frontend.masquerade satisfies never
  }
}

function decideAt(services: CompiledServices, { service, frontend }: OwnedFrontend, packet: Packet): Decision {
  const { sourceRanges } = frontend
  if (sourceRanges && !sourceRanges.some((range) => cidrContains(range, packet.source))) {
    const why = `${packet.source} is in none of spec.loadBalancerSourceRanges`
    return { kind: 'drop', why, service, frontend, sourceRefused: true }
  }
  const view = frontend.outside && packet.origin === 'outside' ? 'outside' : 'verdict'
  const verdict = frontend[view] ?? frontend.verdict
  switch (verdict.kind) {
    case 'balance': {
      const masquerade = isMasqueraded(frontend, packet.origin, services.settings)
      return { kind: 'balance', service, frontend, view, slots: verdict.slots, masquerade }
    }
    case 'reject':
      return { kind: 'reject', why: 'no endpoint is usable on any node', service, frontend }
    case 'drop':
      return {
        kind: 'drop',
        why: 'the traffic policy is Local, and this node has no usable endpoint',
        service,
        frontend,
      }
    default:
      return verdict satisfies never
  }
}

function whyNoNodePort(settings: ProxySettings, { destination, origin }: Packet, family: IpFamily): string | undefined {
  if (isLoopback(destination)) {
    if (origin !== 'node') return 'only the node itself can send to a loopback address'
    const served = loopbackAddresses[family]
    if (destination !== served) return `of loopback addresses, node ports are served at ${served} only`
    return settings.loopbackNodePorts?.includes(family)
      ? undefined
      : 'node ports are not served at loopback addresses (nodePortAddresses)'
  }
  const { nodePortAddresses } = settings
  return !nodePortAddresses || nodePortAddresses.some((cidr) => cidrContains(cidr, destination))
    ? undefined
    : `${destination} is not in nodePortAddresses`
}

function hasClusterIp(services: CompiledServices, ip: IpAddress): ObjectKey | undefined {
  for (const [key, { frontends }] of services.services) {
    if (frontends.some((f) => f.kind === 'cluster-ip' && f.ip === ip)) return key
  }
  return undefined
}
