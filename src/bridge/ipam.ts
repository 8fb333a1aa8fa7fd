import {
  addressAt,
  cidrContains,
  cidrFamily,
  cidrSize,
  formatCidr,
  lastAddress,
  networkOf,
  type Cidr,
} from '../net/cidr.ts'
import { ipToBigInt, type IpAddress } from '../net/ip-address.ts'

/** A pool that has no free address. The message says how full it is and what to do. */
export class PoolExhaustedError extends Error {
  override readonly name = 'PoolExhaustedError'
}

/** An address that was asked for by name and cannot be had. */
export class AddressUnavailableError extends Error {
  override readonly name = 'AddressUnavailableError'
}

/**
 * The addresses that a pool hands out by itself are the first 65,536 of its range: a bitmap of 8 KiB. A bridge has at
 * most 1,023 ports (BR_MAX_PORTS), so no pool needs more; a static address may lie anywhere in the subnet.
 */
const maxDynamic = 65_536

/**
 * Hands out the addresses of one subnet, each at most once, in a circle: an address that was released is used again as
 * late as possible, because neighbours remember it for minutes.
 */
export class AddressPool {
  readonly subnet: Cidr
  /** Addresses that can be handed out without being asked for by name. */
  readonly size: number
  readonly #range: Cidr
  readonly #words: Uint32Array
  readonly #first: bigint
  readonly #count: number
  readonly #reserved: ReadonlySet<IpAddress>
  /** Static addresses beyond the bitmap. */
  readonly #beyond = new Set<IpAddress>()
  #used = 0
  #cursor = 0

  /**
   * `reserved` (the gateway, say) is never handed out, nor are the network's own and its IPv4 broadcast address. With `range`,
   * only addresses of that part of the subnet are handed out without being asked for by name.
   */
  constructor(subnet: Cidr, reserved: readonly IpAddress[] = [], range: Cidr = subnet) {
    this.subnet = networkOf(subnet)
    this.#range = networkOf(range)
    this.#first = ipToBigInt(this.#range.address)
    const total = cidrSize(this.#range)
    this.#count = Number(total > BigInt(maxDynamic) ? BigInt(maxDynamic) : total)
    this.#words = new Uint32Array(Math.ceil(this.#count / 32))
    const never = new Set(reserved)
    never.add(this.subnet.address)
    if (cidrFamily(this.subnet) === 4) never.add(lastAddress(this.subnet))
    this.#reserved = never
    let dynamic = this.#count
    for (const ip of never) {
      const index = this.#indexOf(ip)
      if (index === undefined) continue
      this.#mark(index, true)
      dynamic--
    }
    for (let index = this.#count; index < this.#words.length * 32; index++) this.#mark(index, true)
    this.size = dynamic
  }

  /** Addresses in use, static ones included. */
  get used(): number {
    return this.#used
  }

  /** The next free address. Throws {@link PoolExhaustedError}. */
  allocate(): IpAddress {
    const index = this.#nextFree(this.#cursor) ?? this.#nextFree(0)
    if (index === undefined) {
      throw new PoolExhaustedError(
        `no free address in ${formatCidr(this.#range)}: ${this.#used} of ${this.size} are in use ` +
          `(remove pods, or give the network a larger subnet)`,
      )
    }
    this.#mark(index, true)
    this.#used++
    this.#cursor = (index + 1) % this.#count
    return addressAt(this.#range, BigInt(index))
  }

  /** Takes one given address; the circle goes on behind it. Throws {@link AddressUnavailableError}. */
  reserve(ip: IpAddress): void {
    if (!cidrContains(this.subnet, ip)) {
      throw new AddressUnavailableError(`${ip} is not in ${formatCidr(this.subnet)}`)
    }
    if (this.#reserved.has(ip)) {
      throw new AddressUnavailableError(`${ip} is the network's own (gateway, network or broadcast address)`)
    }
    if (this.has(ip)) throw new AddressUnavailableError(`${ip} is in use already`)
    const index = this.#indexOf(ip)
    if (index === undefined) this.#beyond.add(ip)
    else {
      this.#mark(index, true)
      this.#cursor = (index + 1) % this.#count
    }
    this.#used++
  }

  /** Gives an address back. One that was not in use is no error. */
  release(ip: IpAddress): void {
    if (!cidrContains(this.subnet, ip) || this.#reserved.has(ip) || !this.has(ip)) return
    const index = this.#indexOf(ip)
    if (index === undefined) this.#beyond.delete(ip)
    else this.#mark(index, false)
    this.#used--
  }

  /** Whether the address is in use or never handed out. */
  has(ip: IpAddress): boolean {
    const index = this.#indexOf(ip)
    if (this.#reserved.has(ip)) return true
    return index === undefined ? this.#beyond.has(ip) : (this.#words[index >>> 5]! & (1 << (index & 31))) !== 0
  }

  #indexOf(ip: IpAddress): number | undefined {
    const index = ipToBigInt(ip) - this.#first
    return index >= 0n && index < BigInt(this.#count) ? Number(index) : undefined
  }

  #mark(index: number, used: boolean): void {
    const word = index >>> 5
    if (used) this.#words[word]! |= 1 << (index & 31)
    else this.#words[word]! &= ~(1 << (index & 31))
  }

  #nextFree(from: number): number | undefined {
    for (let index = from; index < this.#count;) {
      const free = ~this.#words[index >>> 5]! & (0xffff_ffff << (index & 31))
      // Math.clz32 of the lowest set bit gives its place.
      if (free !== 0) return (index & ~31) + 31 - Math.clz32(free & -free)
      index = (index & ~31) + 32
    }
    return undefined
  }
}
