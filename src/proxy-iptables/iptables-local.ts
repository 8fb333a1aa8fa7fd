import { cidrFamily, cidrsOverlap, networkOf, parseCidr, type Cidr } from '../net/cidr.ts'
import type { IpFamily } from '../net/ip-address.ts'
import { formatRule, type Rule } from '../iptables/rule.ts'
import type { ProxySettings } from '../proxy/compile-services.ts'
import { chains } from './iptables-names.ts'

/** How rules of one family tell traffic of this node's pods. */
export interface PodMatch {
  /** Conditions, of which any one says that it is a pod's. Empty: nobody is known to be one. */
  readonly isPod: readonly Rule[]
  /** What to put into a rule that marks everything else for masquerade; undefined where nobody is known to be a pod. */
  readonly markOthers: Rule | undefined
  /** The rules of `FAIRLEAD-MARK-UNLESS-POD`, where `markOthers` needs it. */
  readonly markUnlessPod: readonly string[] | undefined
}

/** See {@link PodMatch}. */
export function podMatch(settings: ProxySettings, family: IpFamily): PodMatch {
  if (settings.localInterface) {
    const { name, prefix } = settings.localInterface
    const input = prefix ? `${name}+` : name
    return {
      isPod: [{ input }],
      markOthers: { input: { not: input }, target: chains.markMasquerade },
      markUnlessPod: undefined,
    }
  }
  const networks = settings.localPods.filter((cidr) => cidrFamily(cidr) === family).map(networkOf)
  const isPod = networks.map((source): Rule => ({ source }))
  const [only] = networks
  if (only === undefined) return { isPod, markOthers: undefined, markUnlessPod: undefined }
  if (networks.length === 1) {
    return { isPod, markOthers: { source: { not: only }, target: chains.markMasquerade }, markUnlessPod: undefined }
  }
  return {
    isPod,
    markOthers: { target: chains.markUnlessPod },
    markUnlessPod: [
      ...isPod.map((match) => formatRule({ ...match, target: 'RETURN' })),
      formatRule({ target: chains.markMasquerade }),
    ],
  }
}

const loopback = { 4: parseCidr('127.0.0.0/8'), 6: parseCidr('::1/128') } as const

const localDestination = '-m addrtype --dst-type LOCAL'

/**
 * Conditions, of which any one says that a packet is to an address where node ports answer. Loopback addresses never are:
 * the kernel would need route_localnet, which opens 127.0.0.0/8 to the network (CVE-2020-8558).
 */
export function nodePortMatches(settings: ProxySettings, family: IpFamily): readonly Rule[] {
  const matches = localDestination
  const everywhere: Rule = { destination: { not: loopback[family] }, matches }
  if (!settings.nodePortAddresses) return [everywhere]
  const networks = settings.nodePortAddresses.filter((cidr) => cidrFamily(cidr) === family).map(networkOf)
  // A network that has loopback addresses among others is as good as all: the node has no others in it.
  if (networks.some((cidr) => cidr.prefix === 0)) return [everywhere]
  return networks.filter((cidr) => !isWithin(cidr, loopback[family])).map((destination) => ({ destination, matches }))
}

function isWithin(inner: Cidr, outer: Cidr): boolean {
  return inner.prefix >= outer.prefix && cidrsOverlap(inner, outer)
}
