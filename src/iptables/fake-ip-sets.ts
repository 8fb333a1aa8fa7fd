import type { IpAddress } from '../net/ip-address.ts'
import type { AddressSet, IpSets } from './ip-set.ts'

/** ip_set in memory. Does not know which rules use a set. */
export class FakeIpSets implements IpSets {
  readonly sets = new Map<string, Set<IpAddress>>()

  read(name: string): Promise<ReadonlySet<IpAddress> | undefined> {
    const set = this.sets.get(name)
    return Promise.resolve(set && new Set(set))
  }

  size(name: string): Promise<number | undefined> {
    return Promise.resolve(this.sets.get(name)?.size)
  }

  create({ name }: AddressSet): Promise<void> {
    if (!this.sets.has(name)) this.sets.set(name, new Set())
    return Promise.resolve()
  }

  add({ name }: AddressSet, addresses: Iterable<IpAddress>): Promise<void> {
    for (const address of addresses) this.#existing(name).add(address)
    return Promise.resolve()
  }

  remove({ name }: AddressSet, addresses: Iterable<IpAddress>): Promise<void> {
    for (const address of addresses) this.#existing(name).delete(address)
    return Promise.resolve()
  }

  destroy(name: string): Promise<void> {
    this.sets.delete(name)
    return Promise.resolve()
  }

  #existing(name: string): Set<IpAddress> {
    const set = this.sets.get(name)
    if (!set) throw new Error(`add ipset ${name}: ENOENT`)
    return set
  }

  [Symbol.dispose](): void {
    this.sets.clear()
  }
}
