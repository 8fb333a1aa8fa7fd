/** Number of shards. A change copies one shard, so 100,000 entries cost about 100 copied pointers. */
const shardCount = 1024
const emptyShard: ReadonlyMap<string, never> = new Map<string, never>()

/** A version with more changes than this does not remember which they were. */
const fewChanges = 64

/** What leads from one version of a map to the next. */
interface Step {
  /** Stands for the version before: that itself would hold on to all versions ever. */
  readonly from: symbol
  readonly keys: readonly string[]
}

/**
 * An immutable map from strings, whose versions share what did not change.
 *
 * Making a new version with one change costs one shard (size / 1024 entries), and {@link changedKeys} of two versions
 * costs what differs, not the size. Snapshots are made of these, so that work after a change follows the change.
 */
export class SharedMap<V> implements Iterable<[string, V]> {
  readonly size: number
  readonly #shards: readonly ReadonlyMap<string, V>[]
  readonly #version = Symbol()
  readonly #step: Step | undefined

  private constructor(shards: readonly ReadonlyMap<string, V>[], size: number, step?: Step) {
    this.#shards = shards
    this.size = size
    this.#step = step
  }

  static empty<V>(): SharedMap<V> {
    return new SharedMap<V>(
      Array.from({ length: shardCount }, () => emptyShard),
      0,
    )
  }

  static from<V>(entries: Iterable<readonly [string, V]>): SharedMap<V> {
    return SharedMap.empty<V>().with(entries)
  }

  get(key: string): V | undefined {
    return this.size === 0 ? undefined : this.#shards[shardOf(key)]?.get(key)
  }

  has(key: string): boolean {
    return this.size > 0 && (this.#shards[shardOf(key)]?.has(key) ?? false)
  }

  /** A version with `set` entries added or replaced, then `deleted` keys removed. Values that are identical change nothing. */
  with(set: Iterable<readonly [string, V]>, deleted: Iterable<string> = []): SharedMap<V> {
    let shards: ReadonlyMap<string, V>[] | undefined
    const copies = new Map<number, Map<string, V>>()
    let size = this.size
    const keys: string[] = []
    const writable = (index: number): Map<string, V> => {
      let shard = copies.get(index)
      if (!shard) {
        const before = this.#shards[index]
        // To copy an empty one takes far longer than to make one.
        shard = before === emptyShard ? new Map<string, V>() : new Map(before)
        copies.set(index, shard)
        shards ??= this.#shards.slice()
        shards[index] = shard
      }
      return shard
    }
    for (const [key, value] of set) {
      const index = shardOf(key)
      const shard = (shards ?? this.#shards)[index]
      if (shard?.has(key)) {
        if (shard.get(key) === value) continue
      } else size++
      writable(index).set(key, value)
      if (keys.length <= fewChanges) keys.push(key)
    }
    for (const key of deleted) {
      const index = shardOf(key)
      if (!(shards ?? this.#shards)[index]?.has(key)) continue
      writable(index).delete(key)
      if (keys.length <= fewChanges) keys.push(key)
      size--
    }
    if (!shards) return this
    if (keys.length > fewChanges) return new SharedMap(shards, size)
    // The order in which a look through all shards finds them.
    keys.sort((a, b) => shardOf(a) - shardOf(b))
    return new SharedMap(shards, size, { from: this.#version, keys })
  }

  *[Symbol.iterator](): Iterator<[string, V]> {
    for (const shard of this.#filled()) yield* shard
  }

  *keys(): IterableIterator<string> {
    for (const shard of this.#filled()) yield* shard.keys()
  }

  *values(): IterableIterator<V> {
    for (const shard of this.#filled()) yield* shard.values()
  }

  /** Shards that have something: to begin with an empty one costs as much as an entry. */
  #filled(): readonly ReadonlyMap<string, V>[] {
    return this.#shards.filter((shard) => shard.size > 0)
  }

  /** The keys whose value was added, removed or replaced (by identity) between two versions. */
  static changedKeys<V>(before: SharedMap<V>, after: SharedMap<V>): Set<string> {
    const changed = new Set<string>()
    if (before === after) return changed
    // The next version, as ever in a quiet cluster: asked often, and looking through all shards would take longer than the rest.
    const step = after.#step
    if (step?.from === before.#version) {
      for (const key of step.keys)
        if (before.get(key) !== after.get(key) || before.has(key) !== after.has(key)) changed.add(key)
      return changed
    }
    for (let i = 0; i < shardCount; i++) {
      const old = before.#shards[i] ?? emptyShard
      const now = after.#shards[i] ?? emptyShard
      if (old === now) continue
      for (const [key, value] of now) if (old.get(key) !== value || !old.has(key)) changed.add(key)
      for (const key of old.keys()) if (!now.has(key)) changed.add(key)
    }
    return changed
  }
}

/** FNV-1a over UTF-16 units, folded to a shard number. */
function shardOf(key: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  return ((hash >>> 16) ^ hash) & (shardCount - 1)
}
