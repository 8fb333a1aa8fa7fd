import { cidrContains, parseCidr } from '../net/cidr.ts'
import { ipToBytes, parseIp, type IpAddress } from '../net/ip-address.ts'
import { protocolNumbers, type Protocol } from '../net/protocol.ts'
import type { Ruleset, TableName } from './objects.ts'
import { runSocketFilter } from './socket-filter.ts'

/** The first packet of a connection, as rules see it. */
export interface TracedPacket {
  readonly protocol: Protocol
  readonly source: IpAddress
  readonly destination: IpAddress
  readonly destinationPort: number
  /** The interface that it came in at; undefined: this machine made it. */
  readonly input: string | undefined
  /** Whether an address is this machine's own. */
  readonly isLocal: (ip: IpAddress) => boolean
}

export interface TraceOptions {
  /** A number from 0 to 1 for each draw of `-m statistic`. */
  readonly draw: () => number
  /** Whether a set of `-m set` has an address. */
  readonly isInSet: (set: string, ip: IpAddress) => boolean
  /** Whether xt_recent remembers the client in a list. @default never */
  readonly isRemembered?: (list: string, client: IpAddress) => boolean
  /** Called for every rule that the kernel would compare the packet with. */
  readonly onRule?: () => void
}

/** What becomes of a packet. */
export interface TraceResult {
  readonly verdict: 'accept' | 'drop' | 'reject'
  /** `IP:PORT`, as rules have it; undefined: not translated. */
  readonly translatedTo: string | undefined
  /** The source address is replaced on the way out. */
  readonly masqueraded: boolean
  /** Lists of xt_recent that the client was put into. */
  readonly remembered: readonly string[]
  /** The rules that matched, in order: `nat KUBE-SERVICES -d 10.96.0.5/32 ... -j KUBE-SVC-X`. */
  readonly steps: readonly string[]
}

/** A packet on its way, as rules change it. */
interface Traveller {
  destination: IpAddress
  destinationPort: number
  mark: number
  translatedTo: string | undefined
  masqueraded: boolean
  readonly remembered: string[]
  readonly steps: string[]
}

/**
 * Sends a packet through rules as the kernel would: nat at prerouting or output, filter at input, forward or output, nat at
 * postrouting. Knows the matches and targets that Services are made of; others are an Error. Pure.
 */
export function tracePacket(rules: Ruleset, packet: TracedPacket, options: TraceOptions): TraceResult {
  const traveller: Traveller = {
    destination: packet.destination,
    destinationPort: packet.destinationPort,
    mark: 0,
    translatedTo: undefined,
    masqueraded: false,
    remembered: [],
    steps: [],
  }
  const tracer = new Tracer(rules, { packet, traveller, options })
  const isOwn = packet.input === undefined
  tracer.pass('nat', isOwn ? 'OUTPUT' : 'PREROUTING')
  const inward = packet.isLocal(traveller.destination)
  const filters = isOwn ? (inward ? ['OUTPUT', 'INPUT'] : ['OUTPUT']) : [inward ? 'INPUT' : 'FORWARD']
  let verdict: TraceResult['verdict'] = 'accept'
  for (const chain of filters) if (verdict === 'accept') verdict = tracer.pass('filter', chain)
  if (verdict === 'accept' && (isOwn || !inward)) tracer.pass('nat', 'POSTROUTING')
  const { translatedTo, masqueraded, remembered, steps } = traveller
  return { verdict, translatedTo, masqueraded, remembered, steps }
}

type Outcome = TraceResult['verdict'] | 'return' | undefined

class Tracer {
  readonly #rules: Ruleset
  readonly #packet: TracedPacket
  readonly #traveller: Traveller
  readonly #options: TraceOptions

  constructor(rules: Ruleset, on: { packet: TracedPacket; traveller: Traveller; options: TraceOptions }) {
    this.#rules = rules
    this.#packet = on.packet
    this.#traveller = on.traveller
    this.#options = on.options
  }

  pass(table: TableName, chain: string): TraceResult['verdict'] {
    const outcome = this.#walk(table, chain)
    return outcome === undefined || outcome === 'return' ? 'accept' : outcome
  }

  #walk(table: TableName, chain: string): Outcome {
    for (const text of this.#rules.get(table)?.get(chain) ?? []) {
      this.#options.onRule?.()
      const words = splitWords(text)
      const target = this.#match(words)
      if (target === undefined) continue
      this.#traveller.steps.push(`${table} ${chain} ${text}`)
      const outcome = this.#act(table, target)
      if (outcome === 'return') return undefined
      if (outcome !== undefined) return outcome
    }
    return undefined
  }

  /** The words of the target when all conditions hold; empty for a rule without one. */
  #match(words: readonly string[]): readonly string[] | undefined {
    let at = 0
    const next = (): string => words[at++] ?? ''
    while (at < words.length) {
      let word = next()
      const not = word === '!'
      if (not) word = next()
      if (word === '-j') return words.slice(at)
      if (this.#holds(word, next) === not) return undefined
    }
    return []
  }

  /** Whether one condition holds. What only says how the next one is meant always does, which `!` never stands before. */
  #holds(option: string, next: () => string): boolean {
    const { protocol, source, input, isLocal } = this.#packet
    const { destination, destinationPort, mark } = this.#traveller
    switch (option) {
      case '-s':
        return cidrContains(parseCidr(next()), source)
      case '-d':
        return cidrContains(parseCidr(next()), destination)
      case '-i': {
        const name = next()
        return name.endsWith('+') ? (input?.startsWith(name.slice(0, -1)) ?? false) : input === name
      }
      case '-p':
        return next() === protocol
      case '--dport':
        return Number(next()) === destinationPort
      case '--src-type':
        return next() === 'LOCAL' && isLocal(source)
      case '--dst-type':
        return next() === 'LOCAL' && isLocal(destination)
      case '--ctstate':
        return next().split(',').includes('NEW')
      case '--match-set':
        return this.#options.isInSet(next(), next() === 'dst' ? destination : source)
      case '--mark': {
        const [value = 0, mask = 0] = next().split('/').map(Number)
        return (mark & mask) === value
      }
      case '--probability':
        return this.#options.draw() < Number(next())
      case '--every':
        return this.#options.draw() < 1 / Number(next())
      case '--bytecode':
        return runSocketFilter(next(), header(this.#packet)) !== 0
      case '-m':
        return next() === 'recent' ? this.#recent(next) : true
      case '--comment':
      case '--mode':
      case '--packet':
        next()
        return true
      default:
        throw new Error(`a rule has ${option}, which cannot be traced`)
    }
  }

  /** `--rcheck --seconds N --reap --name LIST --mask MASK --rsource`, or `--set` first. */
  #recent(next: () => string): boolean {
    const isSet = next() === '--set'
    let word = next()
    while (word !== '--name') word = next()
    const list = next()
    while (word !== '--rsource') word = next()
    if (!isSet) return this.#options.isRemembered?.(list, this.#packet.source) ?? false
    this.#traveller.remembered.push(list)
    return true
  }

  #act(table: TableName, [target, option, value = '']: readonly string[]): Outcome {
    const traveller = this.#traveller
    switch (target) {
      case undefined:
        return undefined
      case 'ACCEPT':
        return 'accept'
      case 'DROP':
        return 'drop'
      case 'REJECT':
        return 'reject'
      case 'RETURN':
        return 'return'
      case 'MARK': {
        if (option !== '--set-xmark') throw new Error(`MARK ${option} cannot be traced`)
        const [bits = 0, mask = 0] = value.split('/').map(Number)
        traveller.mark = (traveller.mark & ~mask) ^ bits
        return undefined
      }
      case 'MASQUERADE':
        traveller.masqueraded = true
        return 'accept'
      case 'DNAT': {
        const [, ip = '', port = ''] = /^\[?([^\]]+?)\]?:(\d+)$/.exec(value) ?? []
        traveller.translatedTo = value
        traveller.destination = parseIp(ip)
        traveller.destinationPort = Number(port)
        return 'accept'
      }
      default:
        return this.#walk(table, target)
    }
  }
}

/** Splits at spaces, but for what is quoted. */
function splitWords(text: string): string[] {
  return text.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? []
}

/** As much of an IP header as filters look at: the addresses. */
function header({ source, destination, protocol }: TracedPacket): Uint8Array {
  const from = ipToBytes(source)
  const bytes = new Uint8Array(from.length === 4 ? 20 : 40)
  bytes[from.length === 4 ? 9 : 6] = protocolNumbers[protocol]
  bytes.set(from, from.length === 4 ? 12 : 8)
  bytes.set(ipToBytes(destination), from.length === 4 ? 16 : 24)
  return bytes
}
