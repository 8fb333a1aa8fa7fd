import type { ChainRules } from '../iptables/objects.ts'
import { quote, randomMatch } from '../iptables/rule.ts'
import type { IpAddress, IpFamily } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'
import { memberName } from '../proxy/affinity-members.ts'
import type { Affinity, Algorithm } from '../proxy/frontends.ts'
import { clientHashMatches } from './iptables-hash.ts'
import { chains, portChain, sharedRecentList } from './iptables-names.ts'
import type { ServiceEndpoint } from '../proxy/select-endpoints.ts'
import type { Slots } from '../proxy/slots.ts'

/** A Service port, as its endpoint chains see it. */
export interface BalancedPort {
  /** `NAMESPACE/NAME:PORT` */
  readonly name: string
  readonly protocol: Protocol
  readonly family: IpFamily
  readonly algorithm: Algorithm
  readonly affinity: Affinity | undefined
  /** Leave out comments, as kube-proxy does with more than 1,000 endpoints: they are half of the text. */
  readonly terse: boolean
}

/**
 * An endpoint of a Service port, and the rules of its chain. They are made when they are read: they are most of all rules, and at
 * a cold start the tool reads the first while the last are made.
 */
export class EndpointChain implements ServiceEndpoint, ChainRules {
  readonly ip: IpAddress
  readonly port: Port
  readonly chain: string
  /** How many slots it has. */
  count = 1
  readonly #of: BalancedPort

  constructor({ ip, port }: ServiceEndpoint, of: BalancedPort) {
    this.ip = ip
    this.port = port
    this.#of = of
    this.chain = portChain('SEP', of.name, { protocol: of.protocol, endpoint: this.text })
  }

  /** `10.0.0.1:8080`, `[fd00::1]:8080` */
  get text(): string {
    return this.#of.family === 4 ? `${this.ip}:${this.port}` : `[${this.ip}]:${this.port}`
  }

  get length(): number {
    return 2
  }

  [Symbol.iterator](): Iterator<string> {
    return endpointRules(this, this.#of)[Symbol.iterator]()
  }
}

/** The endpoints that stand in a slot vector, each once, in the order of their first slots. */
export function endpointsOf(slots: Slots, port: BalancedPort): EndpointChain[] {
  const found: EndpointChain[] = []
  // Nearly all vectors are short; in a long one looking through the list would take its square.
  const known = slots.length > 16 ? new Map<string, EndpointChain>() : undefined
  for (const slot of slots) {
    const name = known && `${slot.ip} ${slot.port}`
    const same =
      name === undefined
        ? found.find(({ ip, port: number }) => ip === slot.ip && number === slot.port)
        : known?.get(name)
    if (same) {
      same.count++
      continue
    }
    const endpoint = new EndpointChain(slot, port)
    found.push(endpoint)
    if (name !== undefined) known?.set(name, endpoint)
  }
  return found
}

/*
 * The rules below are three quarters of all. They are written by hand, as formatRule would: a third of the time goes into the
 * objects otherwise.
 */

/** The rules by which a Service's chain chooses an endpoint: first the one that the client had, then by the algorithm. */
export function balanceRules(slots: Slots, endpoints: readonly EndpointChain[], port: BalancedPort): string[] {
  const comment = (endpoint: EndpointChain): string =>
    port.terse ? '' : `-m comment --comment ${quote(`${port.name} -> ${endpoint.text}`)} `
  const rules: string[] = []
  const { affinity } = port
  if (affinity) {
    for (const endpoint of endpoints) {
      const match = `-m recent --rcheck --seconds ${affinity.timeoutSeconds} --reap ${recentList(endpoint, port)}`
      rules.push(`${comment(endpoint)}${match} -j ${endpoint.chain}`)
    }
  }
  const choose = (endpoint: EndpointChain, match: string | undefined): void => {
    rules.push(`${comment(endpoint)}${match === undefined ? '' : `${match} `}-j ${endpoint.chain}`)
  }
  switch (port.algorithm) {
    case 'random':
      chooseAtRandom(endpoints, choose)
      break
    case 'round-robin':
      chooseInTurn(slots, endpoints, choose)
      break
    case 'maglev':
      chooseByClient(slots, endpoints, { family: port.family, choose })
      break
    default:
      return port.algorithm satisfies never
  }
  return rules
}

/** How many rules {@link balanceRules} has, where that can be told without making them. */
export function countBalanceRules(
  endpoints: readonly EndpointChain[],
  { algorithm, affinity }: BalancedPort,
): number | undefined {
  return algorithm === 'random' ? endpoints.length * (affinity ? 2 : 1) : undefined
}

/** The rules of an endpoint's chain: masquerade what comes back to itself, remember the client, translate. */
function endpointRules(endpoint: EndpointChain, port: BalancedPort): string[] {
  const { protocol, family } = port
  const comment = port.terse ? '' : `-m comment --comment ${quote(port.name)} `
  const remember = port.affinity ? `-m recent --set ${recentList(endpoint, port)} ` : ''
  return [
    `-s ${endpoint.ip}/${family === 4 ? 32 : 128} ${comment}-j ${chains.markMasquerade}`,
    `-p ${protocol} ${comment}${remember}-m ${protocol} -j DNAT --to-destination ${endpoint.text}`,
  ]
}

type Choose = (endpoint: EndpointChain, match: string | undefined) => void

/** Each rule takes its share of what the ones before it left; the last takes the rest. */
function chooseAtRandom(endpoints: readonly EndpointChain[], choose: Choose): void {
  let left = endpoints.reduce((sum, { count }) => sum + count, 0)
  for (const [i, endpoint] of endpoints.entries()) {
    choose(endpoint, i < endpoints.length - 1 ? probabilityMatch(endpoint.count, left) : undefined)
    left -= endpoint.count
  }
}

/** kube-proxy hands over ten decimals. */
const shareMatch = (share: number): string => randomMatch(Number(share.toFixed(10)))

/** One in n, for the first n: asked for nearly always, and formatting a number takes as long as all the rest of a rule. */
const oneInMatches: readonly string[] = Array.from({ length: 257 }, (_, n) => (n === 0 ? '' : shareMatch(1 / n)))

function probabilityMatch(count: number, left: number): string {
  return (count === 1 ? oneInMatches[left] : undefined) ?? shareMatch(count / left)
}

/** The kernel counts packets at each rule: the first rule takes each n-th, the second each (n-1)-th of the others, and so on. */
function chooseInTurn(slots: Slots, endpoints: readonly EndpointChain[], choose: Choose): void {
  const byAddress = new Map(endpoints.map((endpoint) => [`${endpoint.ip} ${endpoint.port}`, endpoint]))
  const turns = slots.flatMap(({ ip, port }) => byAddress.get(`${ip} ${port}`) ?? [])
  for (const [i, endpoint] of turns.entries()) {
    const left = turns.length - i
    choose(endpoint, left > 1 ? `-m statistic --mode nth --every ${left} --packet 0` : undefined)
  }
}

/** By the client's address; the endpoint with the most slots takes what no rule before it took. */
function chooseByClient(
  slots: Slots,
  endpoints: readonly EndpointChain[],
  { family, choose }: { family: IpFamily; choose: Choose },
): void {
  const places = new Map<string, number[]>()
  for (const [slot, { ip, port }] of slots.entries()) {
    const key = `${ip} ${port}`
    const known = places.get(key)
    if (known) known.push(slot)
    else places.set(key, [slot])
  }
  const [last, ...others] = [...endpoints].sort((a, b) => b.count - a.count)
  for (const endpoint of others) {
    const own = places.get(`${endpoint.ip} ${endpoint.port}`) ?? []
    for (const match of clientHashMatches(own, { size: slots.length, family })) choose(endpoint, match)
  }
  if (last) choose(last, undefined)
}

/** xt_recent's list, and which address counts, as iptables-save prints it. */
function recentList(endpoint: EndpointChain, { affinity, family }: BalancedPort): string {
  const name =
    affinity?.remembers === 'address'
      ? sharedRecentList(affinity.group, memberName(affinity, endpoint))
      : endpoint.chain
  const mask = family === 4 ? '255.255.255.255' : 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'
  return `--name ${name} --mask ${mask} --rsource`
}
