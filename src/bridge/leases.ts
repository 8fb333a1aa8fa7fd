import { open, type FileHandle } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import type { Log } from '../base/log.ts'
import { parseLabelName } from '../model/names.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { parseMac, type MacAddress } from '../net/mac-address.ts'
import { portOf, type Owner } from './names.ts'
import { parsePublication, type Publication } from './publication.ts'
import { readStateFile, writeStateFile } from './state-file.ts'

/** The addresses that an owner holds in one network: enough to build its endpoint again. */
export interface Lease {
  readonly owner: Owner
  readonly network: string
  /** At most one per family. */
  readonly ips: readonly IpAddress[]
  readonly mac: MacAddress
  /** Path of the network namespace that the endpoint is in. */
  readonly netns: string
  /** The link's name in the namespace. Absent: eth0. */
  readonly link?: string
  /** Ports of the host that lead to it. Absent: none. */
  readonly published?: readonly Publication[]
  /** Other names that the owner has in this network. Absent: none. */
  readonly aliases?: readonly string[]
  /** The boot (/proc/sys/kernel/random/boot_id) in which the lease was made. Namespaces do not outlive it. */
  readonly bootId: string
}

/** `network/owner`: an owner has at most one lease per network. */
export type LeaseKey = string

/** The key of a lease. */
export function leaseKey(lease: { readonly network: string; readonly owner: Owner }): LeaseKey {
  return `${lease.network}/${lease.owner}`
}

/** The journal has compaction when this many records are dead, and more of them than live ones. */
const compactAfter = 1000

/**
 * All leases, in memory and in an append-only journal: one line per change, a CRC-32 of eight hex digits and JSON. A kill
 * at any byte leaves at most one torn line at the end, which is dropped: its change was not yet promised to anyone.
 *
 * By default a change is promised when the kernel has it (which survives kill -9 of the daemon) and not only when the disk
 * has it: a lease does not outlive the boot anyway, so a power failure takes the leases with it, torn or not. `fsync`
 * makes it wait for the disk; changes that are under way at the same time then share one wait.
 */
export class LeaseJournal implements AsyncDisposable {
  readonly #path: string
  readonly #fsync: boolean
  readonly #leases: Map<LeaseKey, Lease>
  #file: FileHandle
  #records: number
  #revision = 0
  readonly #ports: Map<string, Lease>
  #queue: string[] = []
  #writing: Promise<void> | undefined
  /** A write failed half-way (a full disk): the file may end in a torn line, and must be written anew. */
  #torn = false

  private constructor(path: string, options: { fsync: boolean; leases: Map<LeaseKey, Lease>; file: FileHandle }) {
    this.#path = path
    this.#fsync = options.fsync
    this.#leases = options.leases
    this.#ports = new Map(Array.from(options.leases.values(), (lease) => [portOf(lease), lease]))
    this.#records = options.leases.size
    this.#file = options.file
  }

  /** Reads the journal (none is an empty one), drops what is torn, and begins a compacted one. */
  static async open(path: string, options: { log: Log; fsync?: boolean }): Promise<LeaseJournal> {
    const { leases, broken } = parseJournal(readStateFile(path) ?? '')
    if (broken > 0) {
      options.log.warn({ file: path, broken }, 'The lease journal had broken lines, which were dropped')
    }
    writeStateFile(path, formatLeases(leases.values()))
    const file = await open(path, 'a', 0o600)
    return new LeaseJournal(path, { fsync: options.fsync ?? false, leases, file })
  }

  /** All leases, in the order in which they were made. */
  get leases(): ReadonlyMap<LeaseKey, Lease> {
    return this.#leases
  }

  /** The same, by the name of the port on the host. */
  get ports(): ReadonlyMap<string, Lease> {
    return this.#ports
  }

  /** Another number after each change of {@link leases}. */
  get revision(): number {
    return this.#revision
  }

  /** Remembers leases, or what has changed of them: one with the same key is replaced. Resolves when the promise of the class is kept. */
  async add(leases: readonly Lease[]): Promise<void> {
    for (const lease of leases) {
      this.#leases.set(leaseKey(lease), lease)
      this.#ports.set(portOf(lease), lease)
    }
    this.#revision++
    await this.#append(leases.map((lease) => formatRecord({ add: lease })))
  }

  /** Forgets leases; keys that are not there are passed over. */
  async remove(keys: readonly LeaseKey[]): Promise<void> {
    const known = keys.filter((key) => this.#leases.has(key))
    for (const key of known) {
      this.#ports.delete(portOf(this.#leases.get(key)!))
      this.#leases.delete(key)
    }
    this.#revision++
    await this.#append(known.map((key) => formatRecord({ remove: key })))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing
    await this.#file.close()
  }

  async #append(records: readonly string[]): Promise<void> {
    if (records.length === 0) return
    this.#queue.push(...records)
    // What was queued while a write is under way goes out together with the next one.
    while (this.#writing) await this.#writing
    if (this.#queue.length === 0) return
    this.#writing = this.#flush()
    try {
      await this.#writing
    } finally {
      this.#writing = undefined
    }
  }

  async #flush(): Promise<void> {
    const records = this.#queue
    this.#queue = []
    this.#records += records.length
    const dead = this.#records - this.#leases.size
    if (this.#torn || dead > Math.max(compactAfter, this.#leases.size)) {
      writeStateFile(this.#path, formatLeases(this.#leases.values()))
      const old = this.#file
      this.#file = await open(this.#path, 'a', 0o600)
      await old.close()
      this.#records = this.#leases.size
      this.#torn = false
      return
    }
    try {
      await this.#file.appendFile(records.join(''))
      if (this.#fsync) await this.#file.datasync()
    } catch (error) {
      this.#torn = true
      throw error
    }
  }
}

/** The leases that a journal's text means, and how many of its lines are broken. Pure. */
export function parseJournal(text: string): { leases: Map<LeaseKey, Lease>; broken: number } {
  const leases = new Map<LeaseKey, Lease>()
  let broken = 0
  for (const line of text.split('\n')) {
    if (line === '') continue
    const record = parseRecord(line)
    if (record === undefined) broken++
    else if ('add' in record) leases.set(leaseKey(record.add), record.add)
    else leases.delete(record.remove)
  }
  return { leases, broken }
}

type JournalRecord = { readonly add: Lease } | { readonly remove: LeaseKey }

/** One line of the journal. */
export function formatRecord(record: JournalRecord): string {
  const json = JSON.stringify(record)
  return `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`
}

function parseRecord(line: string): JournalRecord | undefined {
  const json = line.slice(9)
  if (line[8] !== ' ' || Number.parseInt(line.slice(0, 8), 16) !== crc32(json)) return undefined
  // The checksum says that we wrote it; still, a version of ours with other fields could have.
  try {
    const record = JSON.parse(json) as Partial<{ add: Lease; remove: string }>
    if (typeof record.remove === 'string') return { remove: record.remove }
    const { owner, network, ips, mac, netns, link, bootId, published, aliases } = record.add ?? ({} as Partial<Lease>)
    if (!owner || !network || !ips || !mac || !netns || !bootId) return undefined
    return {
      add: {
        owner,
        network,
        ips: ips.map(parseIp),
        mac: parseMac(mac),
        netns,
        ...(typeof link === 'string' && { link }),
        bootId,
        ...(published && { published: published.map(parsePublication) }),
        ...(aliases && { aliases: aliases.map(parseLabelName) }),
      },
    }
  } catch {
    return undefined
  }
}

function formatLeases(leases: Iterable<Lease>): string {
  return Array.from(leases, (lease) => formatRecord({ add: lease })).join('')
}
