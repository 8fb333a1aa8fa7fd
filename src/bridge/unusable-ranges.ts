import { cidrsOverlap, formatCidr, parseCidr, type Cidr } from '../net/cidr.ts'

/**
 * The special-purpose ranges (RFC 6890) that no host on a bridge can have an address of. Not 240.0.0.0/4, which the kernel
 * takes, and not 169.254.0.0/16, where DNS caches of nodes have theirs.
 */
const unusable: readonly (readonly [Cidr, string])[] = [
  [parseCidr('0.0.0.0/8'), '"this network"'],
  [parseCidr('127.0.0.0/8'), 'loopback'],
  [parseCidr('224.0.0.0/4'), 'multicast'],
  [parseCidr('::/127'), 'unspecified or loopback'],
  [parseCidr('fe80::/10'), 'link-local'],
  [parseCidr('ff00::/8'), 'multicast'],
]

/** What keeps pods and bridges from having addresses of this network, like `multicast (224.0.0.0/4)`; undefined: nothing. */
export function unusableRangeOf(network: Cidr): string | undefined {
  const clash = unusable.find(([range]) => cidrsOverlap(range, network))
  return clash && `${clash[1]} (${formatCidr(clash[0])})`
}
