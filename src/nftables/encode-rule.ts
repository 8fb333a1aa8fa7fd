import { ipFamilyOf, ipToBytes, parseIp } from '../net/ip-address.ts'
import type { AttributeWriter } from '../netlink/attribute-writer.ts'
import { writeAttributes, type AttributeTable, type AttributeValues } from '../netlink/attributes.ts'
import { fieldOf, paddedLength, registerLength, type Field } from './fields.ts'
import {
  expressionAttributes,
  familyNumbers,
  NFTA_EXPR_DATA,
  NFTA_EXPR_NAME,
  NFTA_LIST_ELEM,
  verdictCodes,
} from './nf-tables-messages.ts'
import {
  nfproto,
  type Draw,
  type Expression,
  type MapLookup,
  type MatchValue,
  type NftFamily,
  type Statement,
} from './objects.ts'

/* enum nft_cmp_ops, nft_reject_types, nft_nat_types, nf_nat_range flags, nft_meta_keys */
const NFT_CMP_EQ = 0
const NFT_CMP_NEQ = 1
const NFT_REJECT_ICMP_UNREACH = 0
const NFT_REJECT_TCP_RST = 1
const NFT_REJECT_ICMPX_UNREACH = 2
const NFT_REJECT_ICMPX_PORT_UNREACH = 1
const NFT_NAT_SNAT = 0
const NFT_NAT_DNAT = 1
const NF_NAT_RANGE_PROTO_RANDOM_FULLY = 0x10
const NFT_LOOKUP_F_INV = 1
const NFT_NG_INCREMENTAL = 0
const NFT_NG_RANDOM = 1
const NFT_HASH_JENKINS = 0
const NFT_DYNSET_OP_UPDATE = 1
const NFT_DYNSET_OP_DELETE = 2
const META_PRIORITY = 2
const META_MARK = 3
const META_PROTOCOL = 1
const META_NFPROTO = 15
/** ETH_P_* of include/uapi/linux/if_ether.h, in network order. */
const etherTypes = { ip: [0x08, 0x00], arp: [0x08, 0x06], ip6: [0x86, 0xdd] } as const

/** A statement that cannot be said to the kernel: a mistake of the caller. */
export class StatementError extends Error {
  override readonly name = 'StatementError'
}

/** What a rule's expressions need to know of the transaction around them. */
export interface RuleContext {
  readonly family: NftFamily
  /** The id of a set that was added in the same transaction. nft names it beside the set's name; the kernel wants either. */
  setId(name: string): number | undefined
  /** The id of the anonymous set that was written before the rule. */
  anonymousSetId(statement: Statement): number
}

/**
 * Writes the expressions of a rule as nft does. A field goes to register 1; the fields of a key follow each other in
 * 32-bit registers, padded to four bytes. Before a field of IPv4 or IPv6 stands the comparison of the network protocol
 * that nft implies by naming the field, once in a rule.
 */
export function writeRuleExpressions(
  writer: AttributeWriter,
  statements: readonly Statement[],
  context: RuleContext,
): void {
  new RuleWriter(writer, context).write(statements)
}

type AddressMatch = Extract<MatchValue, { address: string }>

type ExpressionName = keyof typeof expressionAttributes

class RuleWriter {
  readonly #writer: AttributeWriter
  readonly #context: RuleContext
  /** The network protocol that an earlier match of this rule made sure of. */
  #guarded: 'ip' | 'ip6' | 'arp' | undefined

  constructor(writer: AttributeWriter, context: RuleContext) {
    this.#writer = writer
    this.#context = context
    this.#guarded = context.family === 'ip' || context.family === 'ip6' ? context.family : undefined
  }

  write(statements: readonly Statement[]): void {
    for (const statement of statements) this.#statement(statement)
  }

  #statement(statement: Statement): void {
    switch (statement.kind) {
      case 'match':
        return this.#match(statement)
      case 'in-set':
        this.#load(statement.key)
        return this.#lookup(statement.set, { negate: statement.negate ?? false })
      case 'set-priority':
        if (typeof statement.to === 'number') {
          this.#expression('immediate', { dreg: 1, data: { value: hostOrder(statement.to, 4) } })
        } else if ('draw' in statement.to) this.#draw(statement.to)
        else this.#map(statement.to, 1)
        return this.#expression('meta', { key: META_PRIORITY, sreg: 1 })
      case 'set-mark':
        if (typeof statement.to === 'number') {
          this.#expression('immediate', { dreg: 1, data: { value: hostOrder(statement.to, 4) } })
        } else this.#map(statement.to, 1)
        return this.#expression('meta', { key: META_MARK, sreg: 1 })
      case 'update':
      case 'delete':
        return this.#changeElement(statement)
      case 'mark-or':
        return this.#setMark(~statement.bits, statement.bits)
      case 'mark-xor':
        return this.#setMark(-1, statement.bits)
      case 'vmap':
        return this.#map({ key: statement.key, map: statement.map }, 0)
      case 'dnat':
        this.#map(statement.to, 1)
        return this.#expression('nat', {
          type: NFT_NAT_DNAT,
          family: familyNumbers[statement.family],
          addressRegister: 1,
          portRegister: register(statement.family === 'ip' ? 1 : 4),
        })
      case 'snat':
        this.#expression('immediate', { dreg: 1, data: { value: ipToBytes(statement.to) } })
        return this.#expression('nat', {
          type: NFT_NAT_SNAT,
          family: familyNumbers[statement.family],
          addressRegister: 1,
        })
      case 'masquerade':
        return this.#expression('masq', { flags: NF_NAT_RANGE_PROTO_RANDOM_FULLY })
      case 'reject':
        return this.#reject(statement.with)
      case 'counter':
        return this.#expression('counter', {})
      case 'accept':
      case 'drop':
      case 'return':
        return this.#expression('immediate', { dreg: 0, data: { verdict: { code: verdictCodes[statement.kind] } } })
      case 'jump':
      case 'goto':
        return this.#expression('immediate', {
          dreg: 0,
          data: { verdict: { code: verdictCodes[statement.kind], chain: statement.chain } },
        })
      default:
        return statement satisfies never
    }
  }

  #match(statement: Statement & { kind: 'match' }): void {
    const { left, value, op } = statement
    const field = fieldOf(left)
    const cmp = op === '==' ? NFT_CMP_EQ : NFT_CMP_NEQ
    if ('address' in value) return this.#matchAddress(field, value, cmp)
    this.#guard(field)
    this.#loadField(field, 1)
    if ('number' in value) {
      this.#compare(cmp, fieldBytes(field, value.number))
      if (field.text === 'meta nfproto' && op === '==' && this.#context.family === 'inet') {
        this.#guarded = value.number === nfproto.ipv4 ? 'ip' : value.number === nfproto.ipv6 ? 'ip6' : undefined
      }
    } else if ('anyOf' in value) {
      const setId = this.#context.anonymousSetId(statement)
      this.#expression('lookup', {
        sreg: 1,
        set: '__set%d',
        setId,
        ...(op === '!=' && { flags: NFT_LOOKUP_F_INV }),
      })
    } else if ('mask' in value) {
      this.#mask(1, value.mask)
      this.#compare(cmp, hostOrder(value.equals, 4))
    } else if ('name' in value) {
      const prefix = value.name.endsWith('*')
      const bytes = Buffer.alloc(prefix ? value.name.length - 1 : 16)
      bytes.write(prefix ? value.name.slice(0, -1) : value.name, 'latin1')
      this.#compare(cmp, bytes)
    } else {
      const mask = hostOrder(value.bits, 4)
      const zero = Buffer.alloc(4)
      // nft writes the operation (0, NFT_BITWISE_BOOL) where the user wrote `&`, and not for `ct state new`.
      const op0 = field.load.kind === 'ct' ? undefined : 0
      this.#expression('bitwise', {
        sreg: 1,
        dreg: 1,
        op: op0,
        length: 4,
        mask: { value: mask },
        xor: { value: zero },
      })
      this.#compare(op === '==' ? NFT_CMP_NEQ : NFT_CMP_EQ, zero)
    }
  }

  /** A prefix that ends at a byte is compared by its bytes alone; any other is masked. */
  #matchAddress(field: Field, value: AddressMatch, cmp: number): void {
    const ip = parseIp(value.address)
    const bits = ipFamilyOf(ip) === 4 ? 32 : 128
    if (field.length * 8 !== bits) throw new StatementError(`${field.text} is not compared with ${value.address}`)
    const prefix = value.prefix ?? bits
    this.#guard(field)
    if (prefix === 0) {
      if (cmp === NFT_CMP_EQ) return
      throw new StatementError(`${field.text} != ${value.address}/0 matches nothing`)
    }
    const mask = Buffer.alloc(field.length)
    for (let bit = 0; bit < prefix; bit++) mask[bit >> 3] = (mask[bit >> 3] as number) | (0x80 >> (bit & 7))
    const network = Buffer.from(ipToBytes(ip).map((byte, index) => byte & (mask[index] as number)))
    if (prefix % 8 === 0) {
      this.#loadField(field, 1, prefix / 8)
      return this.#compare(cmp, network.subarray(0, prefix / 8))
    }
    this.#loadField(field, 1)
    this.#expression('bitwise', {
      sreg: 1,
      dreg: 1,
      length: field.length,
      mask: { value: mask },
      xor: { value: Buffer.alloc(field.length) },
    })
    this.#compare(cmp, network)
  }

  /** Keeps these bits of a number in host order. nft says the operation (0, NFT_BITWISE_BOOL) where the user wrote `&`. */
  #mask(register: number, bits: number): void {
    this.#expression('bitwise', {
      sreg: register,
      dreg: register,
      op: 0,
      length: 4,
      mask: { value: hostOrder(bits, 4) },
      xor: { value: Buffer.alloc(4) },
    })
  }

  #draw(draw: Draw): void {
    const { modulus, offset } = draw
    if (draw.draw !== 'hash') {
      const type = draw.draw === 'random' ? NFT_NG_RANDOM : NFT_NG_INCREMENTAL
      return this.#expression('numgen', { dreg: 1, modulus, type, offset })
    }
    // The result takes register 1, so the key stands in the next registers.
    this.#load(draw.key, 4)
    this.#expression('hash', {
      sreg: register(4),
      dreg: 1,
      length: registerLength(draw.key),
      modulus,
      seed: draw.seed,
      offset,
      type: NFT_HASH_JENKINS,
    })
  }

  #changeElement(statement: Statement & { kind: 'update' | 'delete' }): void {
    const { map, key, data } = statement
    this.#load(key)
    const at = Math.ceil(registerLength(key) / 16) * 4
    this.#load(data, at)
    this.#expression('dynset', {
      keyRegister: 1,
      dataRegister: register(at),
      operation: statement.kind === 'update' ? NFT_DYNSET_OP_UPDATE : NFT_DYNSET_OP_DELETE,
      timeout: statement.kind === 'update' ? BigInt(statement.timeoutSeconds) * 1000n : undefined,
      set: map,
      setId: this.#context.setId(map),
    })
  }

  #setMark(mask: number, xor: number): void {
    this.#expression('meta', { key: META_MARK, dreg: 1 })
    const keep = mask === -1 ? -1 : mask
    this.#expression('bitwise', {
      sreg: 1,
      dreg: 1,
      op: 0,
      length: 4,
      mask: { value: hostOrder(keep, 4) },
      xor: { value: hostOrder(xor, 4) },
    })
    this.#expression('meta', { key: META_MARK, sreg: 1 })
  }

  #reject(how: 'tcp-reset' | undefined): void {
    const { family } = this.#context
    if (how === 'tcp-reset') return this.#expression('reject', { type: NFT_REJECT_TCP_RST })
    // ICMP_PORT_UNREACH 3, ICMPV6_PORT_UNREACH 4; icmpx chooses for the packet's own protocol.
    if (family === 'ip' || family === 'ip6') {
      return this.#expression('reject', { type: NFT_REJECT_ICMP_UNREACH, code: family === 'ip' ? 3 : 4 })
    }
    this.#expression('reject', { type: NFT_REJECT_ICMPX_UNREACH, code: NFT_REJECT_ICMPX_PORT_UNREACH })
  }

  #map(lookup: MapLookup, dreg: number): void {
    this.#load(lookup.key)
    this.#lookup(lookup.map, { dreg })
  }

  #lookup(set: string, options: { dreg?: number; negate?: boolean }): void {
    this.#expression('lookup', {
      sreg: 1,
      dreg: options.dreg,
      set,
      setId: this.#context.setId(set),
      ...(options.negate && { flags: NFT_LOOKUP_F_INV }),
    })
  }

  /** Loads fields into successive registers; `slot` counts registers of four bytes. */
  #load(key: readonly Expression[], slot = 0): void {
    const parts = key.map(fieldOf)
    for (const field of parts) this.#guard(field)
    for (const field of parts) {
      this.#loadField(field, register(slot))
      if (field.mask !== undefined) this.#mask(register(slot), field.mask)
      slot += paddedLength(field) / 4
    }
    if (slot > 16) throw new StatementError(`a key has at most 64 bytes: ${parts.map(({ text }) => text).join(' . ')}`)
  }

  #loadField(field: Field, dreg: number, length = field.length): void {
    const { load } = field
    switch (load.kind) {
      case 'payload':
        return this.#expression('payload', { dreg, base: load.base, offset: load.offset, length })
      case 'meta':
        return this.#expression('meta', { key: load.key, dreg })
      case 'ct':
        return this.#expression('ct', { key: load.key, dreg })
      case 'fib':
        return this.#expression('fib', { flags: load.flags, result: load.result, dreg })
      case 'numgen':
        return this.#expression('numgen', { dreg, modulus: load.modulus, type: NFT_NG_RANDOM, offset: 0 })
      default:
        return load satisfies never
    }
  }

  #guard(field: Field): void {
    const { family } = field
    if (family === undefined || family === this.#guarded) return
    if (this.#guarded !== undefined) throw new StatementError(`${field.text} in a rule that is about ${this.#guarded}`)
    this.#guarded = family
    if (this.#context.family === 'bridge') {
      this.#expression('meta', { key: META_PROTOCOL, dreg: 1 })
      return this.#compare(NFT_CMP_EQ, Buffer.from(etherTypes[family]))
    }
    if (family === 'arp') throw new StatementError(`${field.text} is only seen by tables of family bridge`)
    this.#expression('meta', { key: META_NFPROTO, dreg: 1 })
    this.#compare(NFT_CMP_EQ, Buffer.from([family === 'ip' ? nfproto.ipv4 : nfproto.ipv6]))
  }

  #compare(op: number, value: Uint8Array): void {
    this.#expression('cmp', { sreg: 1, op, data: { value } })
  }

  #expression<N extends ExpressionName>(name: N, values: AttributeValues<(typeof expressionAttributes)[N]>): void {
    const writer = this.#writer
    const element = writer.beginNest(NFTA_LIST_ELEM)
    writer.string(NFTA_EXPR_NAME, name)
    const attributes = writer.beginNest(NFTA_EXPR_DATA)
    writeAttributes(writer, expressionAttributes[name] as AttributeTable, values as AttributeValues<AttributeTable>)
    writer.endNest(attributes)
    writer.endNest(element)
  }
}

/** The register of the `slot`th four bytes: NFT_REG_1 to 4 where 16 bytes begin, else NFT_REG32_00 (8) and on. */
function register(slot: number): number {
  return slot % 4 === 0 ? 1 + slot / 4 : 8 + slot
}

/** A number as a field of packets (network order) or of the kernel (host order) has it. */
export function fieldBytes(field: Field, value: number): Buffer {
  const bytes = hostOrder(value, field.length)
  return field.bigEndian ? bytes.reverse() : bytes
}

function hostOrder(value: number, length: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return bytes.subarray(0, length)
}
