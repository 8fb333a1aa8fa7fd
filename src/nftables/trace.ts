import { cidrContains, parseCidr } from '../net/cidr.ts'
import { ipFamilyOf, ipFromBytes, parseIp, type IpAddress } from '../net/ip-address.ts'
import { jhash } from '../net/jhash.ts'
import { formatElement, formatRule } from './format.ts'
import { registerBytes } from './keys.ts'
import {
  fibTypeLocal,
  nfproto,
  type Chain,
  type ChainHook,
  type Draw,
  type Expression,
  type MatchValue,
  type NftSet,
  type RegisterBytes,
  type Rule,
  type Statement,
  type TableState,
} from './objects.ts'

/** A connection's first packet on its way through the hooks. */
export interface TracedPacket {
  readonly source: IpAddress
  readonly destination: IpAddress
  /** IANA number. */
  readonly protocol: number
  readonly sourcePort: number
  readonly destinationPort: number
  /** The interface that it came in at; undefined: a process of this host made it. */
  readonly iifname?: string | undefined
  readonly mark?: number
}

/** What a table did with a packet at one hook. */
export interface TraceResult {
  readonly verdict: 'accept' | 'drop' | 'reject'
  /** Where it goes now. */
  readonly destination: IpAddress
  readonly destinationPort: number
  /** The destination was translated here. */
  readonly translated: boolean
  /** The source will be the address of the interface that it leaves by. */
  readonly masqueraded: boolean
  readonly snat: IpAddress | undefined
  readonly mark: number
  readonly priority: number
  /** The rules that matched, in order, as `CHAIN: RULE`, each followed by the elements that it found, indented. */
  readonly steps: readonly string[]
}

/** What the host around the table knows. */
export interface TraceHost {
  /** `fib daddr type local` */
  readonly isLocal: (ip: IpAddress) => boolean
  /** A number from 0 to modulus - 1, where a rule draws one. */
  readonly draw: (modulus: number) => number
  /** Called for every rule that the kernel would evaluate, and for every lookup in a set or map. */
  readonly onRule?: () => void
  readonly onLookup?: () => void
}

/** A chain that calls itself for ever would hang a test. The kernel allows 16 jumps. */
const maxSteps = 1000

/**
 * Runs packets through a table as the kernel would (new connections only; `ct state` is `new`). For tests: what rules do can
 * be compared with what they were meant to, without a kernel. Dynamic maps fill up over the packets of one tracer; time
 * stands still, so that nothing in them ends.
 */
export class Tracer {
  readonly #table: TableState
  readonly #host: TraceHost
  readonly #chains: ReadonlyMap<string, Chain>
  readonly #sets: ReadonlyMap<string, NftSet>
  readonly #dynamic = new Map<string, Map<RegisterBytes, RegisterBytes>>()

  constructor(table: TableState, host: TraceHost) {
    this.#table = table
    this.#host = host
    this.#chains = new Map(table.chains.map((chain) => [chain.name, chain]))
    this.#sets = new Map(table.sets.map((set) => [set.name, set]))
  }

  /** Sends the packet through the table's base chains of one hook, by priority. */
  run(hook: ChainHook['hook'], packet: TracedPacket, before?: TraceResult): TraceResult {
    const state = new State(packet, before)
    const base = this.#table.chains
      .filter((chain) => chain.hook?.hook === hook)
      .sort((a, b) => (a.hook?.priority ?? 0) - (b.hook?.priority ?? 0))
    for (const chain of base) {
      // Once the destination is decided, other NAT chains of the hook are passed by.
      if (chain.hook?.type === 'nat' && state.natDone) continue
      const verdict = this.#runChain(chain, state, 0)
      if (verdict === 'drop' || verdict === 'reject') return state.result(verdict)
    }
    return state.result('accept')
  }

  #runChain(chain: Chain, state: State, depth: number): Verdict {
    if (depth > 16) throw new Error(`chain ${chain.name} is more than 16 jumps deep`)
    for (const rule of chain.rules) {
      this.#host.onRule?.()
      const steps = state.steps.length
      state.note(`${chain.name}: ${formatRule(rule)}`)
      const verdict = this.#runRule(rule, state, depth)
      if (verdict === 'break') {
        state.steps.length = steps
        continue
      }
      if (verdict !== 'continue') return verdict === 'return' ? 'continue' : verdict
    }
    return 'continue'
  }

  /** `continue`: on to the next rule; `break`: so too, for this one does not match. */
  #runRule(rule: Rule, state: State, depth: number): Verdict | 'return' | 'break' {
    for (const statement of rule.statements) {
      const verdict = this.#runStatement(statement, state, depth)
      if (verdict !== 'continue') return verdict
    }
    return 'continue'
  }

  #runStatement(statement: Statement, state: State, depth: number): Verdict | 'return' | 'break' {
    switch (statement.kind) {
      case 'match': {
        const value = this.#load([statement.left], state)
        if (value === undefined) return 'break'
        return matches(statement.value, value, state) === (statement.op === '==') ? 'continue' : 'break'
      }
      case 'in-set': {
        const key = this.#load(statement.key, state)
        if (key === undefined) return 'break'
        const found = this.#find(statement.set, key, state) !== undefined
        return found === (statement.negate !== true) ? 'continue' : 'break'
      }
      case 'set-priority': {
        const value = this.#number(statement.to, state)
        if (value === undefined) return 'break'
        state.priority = value
        return 'continue'
      }
      case 'set-mark': {
        const value = this.#number(statement.to, state)
        if (value === undefined) return 'break'
        state.mark = value
        return 'continue'
      }
      case 'update': {
        const key = this.#load(statement.key, state)
        const data = this.#load(statement.data, state)
        if (key === undefined || data === undefined) return 'break'
        const elements = this.#dynamicOf(statement.map)
        if (!elements.has(key)) elements.set(key, data)
        return 'continue'
      }
      case 'delete': {
        const key = this.#load(statement.key, state)
        if (key !== undefined) this.#dynamicOf(statement.map).delete(key)
        return 'continue'
      }
      case 'mark-or':
        state.mark = (state.mark | statement.bits) >>> 0
        return 'continue'
      case 'mark-xor':
        state.mark = (state.mark ^ statement.bits) >>> 0
        return 'continue'
      case 'vmap': {
        const key = this.#load(statement.key, state)
        const verdict = key === undefined ? undefined : this.#find(statement.map, key, state)
        if (verdict === undefined) return 'break'
        const [kind = '', chain = ''] = verdict.split(' ')
        return kind === 'goto' || kind === 'jump' ? this.#call(kind, chain, state, depth) : (kind as 'accept')
      }
      case 'dnat': {
        const key = this.#load(statement.to.key, state)
        const data = key === undefined ? undefined : this.#find(statement.to.map, key, state)
        if (data === undefined) return 'break'
        const bytes = Buffer.from(data, 'latin1')
        const length = statement.family === 'ip' ? 4 : 16
        state.translate(ipFromBytes(bytes.subarray(0, length)), bytes.readUInt16BE(length))
        return 'accept'
      }
      case 'masquerade':
        state.masqueraded = true
        state.natDone = true
        return 'accept'
      case 'snat':
        state.snat = statement.to
        state.natDone = true
        return 'accept'
      case 'counter':
        return 'continue'
      case 'reject':
      case 'accept':
      case 'drop':
      case 'return':
        return statement.kind
      case 'jump':
      case 'goto':
        return this.#call(statement.kind, statement.chain, state, depth)
      default:
        return statement satisfies never
    }
  }

  /** A chain that ends without a verdict: `jump` comes back, `goto` leaves the calling chain too. */
  #call(kind: 'jump' | 'goto', name: string, state: State, depth: number): Verdict | 'return' {
    const chain = this.#chains.get(name)
    if (!chain) throw new Error(`no chain ${name} in table ${this.#table.name}`)
    const verdict = this.#runChain(chain, state, depth + 1)
    if (verdict !== 'continue') return verdict
    return kind === 'goto' ? 'return' : 'continue'
  }

  #number(to: Extract<Statement, { kind: 'set-priority' }>['to'], state: State): number | undefined {
    if (typeof to === 'number') return to
    if ('draw' in to) return this.#draw(to, state)
    const key = this.#load(to.key, state)
    const data = key === undefined ? undefined : this.#find(to.map, key, state)
    return data === undefined ? undefined : Buffer.from(data, 'latin1').readUInt32LE()
  }

  #draw(draw: Draw, state: State): number | undefined {
    if (draw.draw !== 'hash') return draw.offset + this.#host.draw(draw.modulus)
    const key = this.#load(draw.key, state)
    if (key === undefined) return undefined
    // reciprocal_scale() of the kernel: the upper bits of the product.
    const hash = BigInt(jhash(Buffer.from(key, 'latin1'), draw.seed))
    return draw.offset + Number((hash * BigInt(draw.modulus)) >> 32n)
  }

  #dynamicOf(name: string): Map<RegisterBytes, RegisterBytes> {
    let elements = this.#dynamic.get(name)
    if (!elements) this.#dynamic.set(name, (elements = new Map()))
    return elements
  }

  /** The data of an element; empty for one of a set. */
  #find(name: string, key: RegisterBytes, state: State): string | undefined {
    const set = this.#sets.get(name)
    if (!set) throw new Error(`no set ${name} in table ${this.#table.name}`)
    this.#host.onLookup?.()
    const data = this.#lookUp(set, key)
    if (data !== undefined) {
      const element = set.interval ? formatElement({ ...set, interval: false }, key, '') : formatElement(set, key, data)
      state.note(`  @${name}: ${element}`)
    }
    return data
  }

  #lookUp(set: NftSet, key: RegisterBytes): string | undefined {
    const { name } = set
    if (set.dynamic) return this.#dynamicOf(name).get(key)
    const elements = this.#table.elements.get(name)
    if (!set.interval) return elements?.get(key)
    const fields = fieldLengths(set.key)
    return [...(elements ?? [])].some(([first, last]) => inRange(key, first, last === '' ? first : last, fields))
      ? ''
      : undefined
  }

  /** Undefined where the packet has no such field: the rule ends. */
  #load(expressions: readonly Expression[], state: State): RegisterBytes | undefined {
    let bytes = ''
    for (const expression of expressions) {
      const field = this.#loadOne(expression, state)
      if (field === undefined) return undefined
      bytes += field
    }
    return bytes
  }

  #loadOne(expression: Expression, state: State): RegisterBytes | undefined {
    const { packet } = state
    const family = ipFamilyOf(packet.source)
    if (typeof expression === 'object') {
      if ('numgenRandom' in expression) return registerBytes({ number: this.#host.draw(expression.numgenRandom) })
      return registerBytes({ number: (state.priority & expression.priorityMask) >>> 0 })
    }
    switch (expression) {
      case 'ip saddr':
        return family === 4 ? registerBytes({ ip: packet.source }) : undefined
      case 'ip6 saddr':
        return family === 6 ? registerBytes({ ip: packet.source }) : undefined
      case 'ip daddr':
        return family === 4 ? registerBytes({ ip: state.destination }) : undefined
      case 'ip6 daddr':
        return family === 6 ? registerBytes({ ip: state.destination }) : undefined
      case 'meta l4proto':
        return registerBytes({ number: packet.protocol })
      case 'meta nfproto':
        return registerBytes({ number: family === 4 ? nfproto.ipv4 : nfproto.ipv6 })
      case 'meta mark':
        return registerBytes({ number: state.mark })
      case 'meta priority':
        return registerBytes({ number: state.priority })
      case 'iifname':
        // No device, no name (nft_meta_store_ifname()).
        return registerBytes({ name: packet.iifname ?? '' })
      case 'th sport':
        return registerBytes({ port: packet.sourcePort })
      case 'th dport':
        return registerBytes({ port: state.destinationPort })
      case 'ct state':
        return registerBytes({ number: newState })
      case 'ct status':
        return registerBytes({ number: state.translated ? dnatStatus : 0 })
      case 'ct direction':
        return registerBytes({ number: 0 })
      case 'fib daddr type':
        return registerBytes({ number: this.#host.isLocal(state.destination) ? fibTypeLocal : 1 })
      default:
        return undefined
    }
  }
}

type Verdict = 'continue' | 'accept' | 'drop' | 'reject'

const newState = 0x8
const dnatStatus = 0x20

class State {
  readonly packet: TracedPacket
  destination: IpAddress
  destinationPort: number
  translated: boolean
  masqueraded = false
  snat: IpAddress | undefined
  mark: number
  priority: number
  natDone = false
  readonly steps: string[] = []
  #noted = 0

  constructor(packet: TracedPacket, before: TraceResult | undefined) {
    this.packet = packet
    this.destination = before?.destination ?? packet.destination
    this.destinationPort = before?.destinationPort ?? packet.destinationPort
    this.translated = before?.translated ?? false
    this.mark = before?.mark ?? packet.mark ?? 0
    this.priority = before?.priority ?? 0
    this.steps.push(...(before?.steps ?? []))
  }

  translate(destination: IpAddress, port: number): void {
    this.destination = destination
    this.destinationPort = port
    this.translated = true
    this.natDone = true
  }

  note(step: string): void {
    this.steps.push(step)
    if (++this.#noted > maxSteps) throw new Error(`a packet passed more than ${maxSteps} rules`)
  }

  result(verdict: TraceResult['verdict']): TraceResult {
    const { destination, destinationPort, translated, masqueraded, snat, mark, priority, steps } = this
    return { verdict, destination, destinationPort, translated, masqueraded, snat, mark, priority, steps }
  }
}

function matches(wanted: MatchValue, value: RegisterBytes, state: State): boolean {
  const number = Buffer.from(value.padEnd(4, '\0'), 'latin1').readUInt32LE()
  if ('number' in wanted) return number === wanted.number >>> 0
  if ('anyOf' in wanted) return wanted.anyOf.includes(number)
  if ('bits' in wanted) return (number & wanted.bits) !== 0
  if ('mask' in wanted) return (number & wanted.mask) >>> 0 === wanted.equals >>> 0
  if ('name' in wanted) {
    const name = state.packet.iifname ?? ''
    return wanted.name.endsWith('*') ? name.startsWith(wanted.name.slice(0, -1)) : name === wanted.name
  }
  const address = ipFromBytes(Buffer.from(value, 'latin1'))
  if (wanted.prefix === undefined) return address === parseIp(wanted.address)
  return cidrContains(parseCidr(`${wanted.address}/${wanted.prefix}`), address)
}

const wideFields: ReadonlySet<Expression> = new Set(['ip6 saddr', 'ip6 daddr', 'iifname', 'oifname'])

/** Bytes of each field of a key, padded to four. */
function fieldLengths(key: readonly Expression[]): readonly number[] {
  return key.map((expression) => (wideFields.has(expression) ? 16 : 4))
}

/** Each field for itself lies within its range (as in the kernel's set type for concatenated ranges). */
function inRange(key: RegisterBytes, first: RegisterBytes, last: RegisterBytes, fields: readonly number[]): boolean {
  let at = 0
  return fields.every((length) => {
    const part = (bytes: RegisterBytes): string => bytes.slice(at, at + length)
    const [value, low, high] = [part(key), part(first), part(last)]
    at += length
    return value >= low && value <= high
  })
}
