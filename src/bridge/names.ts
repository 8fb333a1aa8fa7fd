import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { netnsFolder } from '../linux/netns.ts'

/*
 * How our things are called in the kernel, so that `fairlead cleanup` finds all of them without any state file, and so
 * that `ip link` and `ip netns` can be read by people.
 */

/** Every link of ours has an alias that begins so (`ip link set dev X alias ...`, IFLA_IFALIAS). */
export const aliasPrefix = 'fairlead '

/**
 * Every link of ours is in this link group ("fl"). The kernel takes a group at a link's birth but an alias only afterwards,
 * so a link that was cut off in the making is still known as ours.
 */
export const linkGroup = 0x666c

/** Whether a link is ours. */
export function isOurs(link: { readonly alias: string | undefined; readonly group: number }): boolean {
  return link.group === linkGroup || (link.alias?.startsWith(aliasPrefix) ?? false)
}

/** The names of the network namespaces of our pods begin so. */
export const defaultNetnsPrefix = 'fl-'

/** The names of the veth ends that stay on the host begin so. */
export const portPrefix = 'flv'

/** The nftables table that holds the masquerade rules (family inet). All our tables begin with `fairlead-`. */
export const bridgeTable = 'fairlead-bridge'

/** The interface inside a pod. */
export const podInterface = 'eth0'

/** The alias of a network's bridge. */
export function networkAlias(network: string): string {
  return `${aliasPrefix}network ${network}`
}

/** Whether a link is the bridge of this network, or one of ours that never got its alias. */
export function isNetworkBridge(
  link: { readonly alias: string | undefined; readonly group: number },
  network: string,
): boolean {
  return link.alias === networkAlias(network) || (link.alias === undefined && link.group === linkGroup)
}

/** Who holds a lease: a kind and a name, `pod default/web-1`. It is also the alias of the host's veth end. */
export type Owner = `pod ${string}` | `cni ${string}`

/** The owner name of a pod. */
export function podOwner(pod: { readonly namespace: string; readonly name: string }): Owner {
  return `pod ${pod.namespace}/${pod.name}`
}

/** The alias of the veth end that stays on the host. */
export function ownerAlias(owner: Owner): string {
  return aliasPrefix + owner
}

/**
 * The name of the veth end that stays on the host: `flv` and 12 hex digits (48 bits of a hash), which together are the 15
 * bytes that a link's name may have. The same owner and interface always get the same name.
 */
export function hostLinkName(owner: Owner, interfaceName: string = podInterface): string {
  return `${portPrefix}${createHash('sha256').update(`${owner} ${interfaceName}`).digest('hex').slice(0, 12)}`
}

/** The name of the port of a lease; leases of before there were several networks per pod say no link. */
export function portOf(lease: { readonly owner: Owner; readonly link?: string }): string {
  return hostLinkName(lease.owner, lease.link ?? podInterface)
}

/** The name of a pod's network namespace: `fl-NAMESPACE.NAME`. Both are labels, without dots, so it is unambiguous. */
export function podNetnsName(pod: { readonly namespace: string; readonly name: string }, prefix: string): string {
  return `${prefix}${pod.namespace}.${pod.name}`
}

/** Whether a network namespace has a name as {@link podNetnsName} makes them. */
export function isPodNetns(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && /^[^.]+\.[^.]+$/.test(name.slice(prefix.length))
}

/** `/run/netns/NAME`. */
export function netnsPath(name: string): string {
  return join(netnsFolder, name)
}

/** Whether `name` may be a link's name (dev_valid_name() in net/core/dev.c; IFNAMSIZ is 16 with the NUL; % makes the kernel number it). */
export function isLinkName(name: string): boolean {
  return /^[^\s/:%\0]{1,15}$/.test(name) && name !== '.' && name !== '..' && Buffer.byteLength(name) <= 15
}
