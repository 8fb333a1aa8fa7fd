import type { ChainRules } from '../iptables/objects.ts'
import { quote, randomMatch } from '../iptables/rule.ts'
import type { IpFamily } from '../net/ip-address.ts'
import type { Protocol } from '../net/protocol.ts'
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

/** An endpoint with its chain. */
export interface ChainedEndpoint extends ServiceEndpoint {
  readonly chain: string
  /** `10.0.0.1:8080`, `[fd00::1]:8080` */
  readonly text: string
  /** How many slots it has. */
  count: number
}

/** The endpoints that stand in a slot vector, each once, in the order of their first slots. */
export function endpointsOf(slots: Slots, port: BalancedPort): ChainedEndpoint[] {
  const found = new Map<string, ChainedEndpoint>()
  for (const { ip, port: number } of slots) {
    const text = port.family === 4 ? `${ip}:${number}` : `[${ip}]:${number}`
    const known = found.get(text)
    if (known) known.count++
    else {
      const chain = portChain('SEP', port.name, { protocol: port.protocol, endpoint: text })
      found.set(text, { ip, port: number, chain, text, count: 1 })
    }
  }
  return [...found.values()]
}

/*
 * The rules below are three quarters of all. They are written by hand, as formatRule would: a third of the time goes into the
 * objects otherwise.
 */

/** The rules by which a Service's chain chooses an endpoint: first the one that the client had, then by the algorithm. */
export function balanceRules(slots: Slots, endpoints: readonly ChainedEndpoint[], port: BalancedPort): string[] {
  const comment = (endpoint: ChainedEndpoint): string =>
    port.terse ? '' : `-m comment --comment ${quote(`${port.name} -> ${endpoint.text}`)} `
  const rules: string[] = []
  const { affinity } = port
  if (affinity) {
    for (const endpoint of endpoints) {
      const match = `-m recent --rcheck --seconds ${affinity.timeoutSeconds} --reap ${recentList(endpoint, port)}`
      rules.push(`${comment(endpoint)}${match} -j ${endpoint.chain}`)
    }
  }
  const choose = (endpoint: ChainedEndpoint, match: string | undefined): void => {
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

/**
 * The rules of an endpoint's chain, made when they are read: they are most of all rules, and at a cold start the tool reads the
 * first while the last are made.
 */
export class EndpointRules implements ChainRules {
  readonly length = 2
  readonly #endpoint: ChainedEndpoint
  readonly #port: BalancedPort

  constructor(endpoint: ChainedEndpoint, port: BalancedPort) {
    this.#endpoint = endpoint
    this.#port = port
  }

  [Symbol.iterator](): Iterator<string> {
    return endpointRules(this.#endpoint, this.#port)[Symbol.iterator]()
  }
}

/** The rules of an endpoint's chain: masquerade what comes back to itself, remember the client, translate. */
function endpointRules(endpoint: ChainedEndpoint, port: BalancedPort): string[] {
  const { protocol, family } = port
  const comment = port.terse ? '' : `-m comment --comment ${quote(port.name)} `
  const remember = port.affinity ? `-m recent --set ${recentList(endpoint, port)} ` : ''
  return [
    `-s ${endpoint.ip}/${family === 4 ? 32 : 128} ${comment}-j ${chains.markMasquerade}`,
    `-p ${protocol} ${comment}${remember}-m ${protocol} -j DNAT --to-destination ${endpoint.text}`,
  ]
}

type Choose = (endpoint: ChainedEndpoint, match: string | undefined) => void

/** Each rule takes its share of what the ones before it left; the last takes the rest. */
function chooseAtRandom(endpoints: readonly ChainedEndpoint[], choose: Choose): void {
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
function chooseInTurn(slots: Slots, endpoints: readonly ChainedEndpoint[], choose: Choose): void {
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
  endpoints: readonly ChainedEndpoint[],
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
function recentList(endpoint: ChainedEndpoint, { affinity, family }: BalancedPort): string {
  const name = affinity?.remembers === 'address' ? sharedRecentList(affinity.group, endpoint.ip) : endpoint.chain
  const mask = family === 4 ? '255.255.255.255' : 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'
  return `--name ${name} --mask ${mask} --rsource`
}
