import { readFileSync, statSync } from 'node:fs'
import { type Clock, systemClock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { isAtOrBelow, labelsOfKey, type Name, type NameKey, nameOfLabels, parseName } from '../dns-message/name.ts'
import type { Question } from '../dns-message/query.ts'
import { addressSets, type Answer, emptyAnswer, nameSet, rcodes, recordTypes } from '../dns-message/record-set.ts'
import { reverseKey } from '../dns-message/reverse-name.ts'
import { type IpAddress, parseIp } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import type { NameStage } from './resolve.ts'

/** One line of hosts(5): an address and its names. A name may begin with `*`, which is any one label. */
export interface HostsEntry {
  readonly address: IpAddress
  readonly names: readonly Name[]
}

export interface HostsNamesOptions {
  /** Looked at as it changes; may be missing. */
  readonly file?: string | undefined
  readonly entries?: readonly HostsEntry[]
  /** Names outside of these are not answered; default: all names. */
  readonly zones?: readonly Name[]
  /** Seconds; default 3600, as in CoreDNS. */
  readonly ttl?: number
  /** Whether addresses have names too; default true. */
  readonly reverse?: boolean
  /** Whether a name of `zones` without an entry may be known to others; default: it may. False: NXDOMAIN. */
  readonly passesOn?: (key: NameKey) => boolean
  /** Milliseconds between looks at the file; default 5000; 0: it is read once. */
  readonly interval?: number
  readonly log: Log
  readonly clock?: Clock
}

/** Reads hosts(5). Lines that cannot be used are in `problems`, with their number; the others count. */
export function parseHosts(text: string): { readonly entries: readonly HostsEntry[]; readonly problems: string[] } {
  const problems: string[] = []
  const entries = text.split('\n').flatMap((line, index): HostsEntry[] => {
    const words = (line.split('#')[0] ?? '').trim().split(/\s+/)
    if (words[0] === '') return []
    try {
      return [parseHostsEntry(words)]
    } catch (error) {
      if (!(error instanceof ParseError)) throw error
      problems.push(`line ${index + 1}: ${error.message}`)
      return []
    }
  })
  return { entries, problems }
}

/** `['10.0.0.5', 'nas.home', 'nas']`. Throws {@link ParseError}. */
export function parseHostsEntry([address = '', ...names]: readonly string[]): HostsEntry {
  if (names.length === 0) throw new ParseError(`"${address}" has no name (expected ADDRESS NAME...)`)
  return { address: parseIp(address), names: names.map(parseName) }
}

/** Names that people wrote down: in a hosts file, which is followed, and in the configuration. */
export class HostsNames implements NameStage, Disposable {
  readonly #options: HostsNamesOptions
  readonly #addresses = new Map<NameKey, Set<IpAddress>>()
  /** The names of an address, by its reverse name. */
  readonly #names = new Map<NameKey, Name[]>()
  #seen = ''
  #timer: Timer | undefined

  constructor(options: HostsNamesOptions) {
    this.#options = options
    this.#look()
  }

  /** How many names have an address. */
  get size(): number {
    return this.#addresses.size
  }

  touches(zone: NameKey): boolean {
    const { file, zones, entries = [], passesOn } = this.#options
    const overlaps = ({ key }: Name) => isAtOrBelow(key, zone) || isAtOrBelow(zone, key)
    if (zones && !zones.some(overlaps)) return false
    // What a file will say next is not known, and a denial speaks about all names.
    if (file !== undefined || (passesOn && !passesOn(zone))) return true
    return entries.some(({ names }) => names.some(({ key }) => isAtOrBelow(key, zone)))
  }

  answer({ name, type }: Question): Answer | undefined {
    const { zones, ttl = 3600, reverse = true, passesOn } = this.#options
    if (zones && !zones.some((zone) => isAtOrBelow(name.key, zone.key))) return undefined
    const options = { owner: name, ttl }
    const pointers = reverse ? this.#names.get(name.key) : undefined
    if (pointers) return positive(type === recordTypes.PTR ? [nameSet(recordTypes.PTR, pointers, options)] : [])
    const addresses = this.#addresses.get(name.key) ?? this.#addresses.get(wildcardOf(name.key))
    if (addresses) return positive(addressSets([...addresses], options).filter((set) => set.type === type))
    if (!passesOn || passesOn(name.key)) return undefined
    return { ...emptyAnswer(rcodes.NXDOMAIN), authoritative: true, from: 'hosts' }
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel()
  }

  /** By stat: such files are replaced by rename, and in a pod they are symbolic links. */
  #look(): void {
    const { file, interval = 5000, clock = systemClock } = this.#options
    const stat = file === undefined ? undefined : statSync(file, { throwIfNoEntry: false })
    const seen = stat ? `${stat.ino} ${stat.mtimeMs} ${stat.size}` : 'missing'
    if (seen !== this.#seen) this.#read()
    this.#seen = seen
    if (file !== undefined && interval > 0) this.#timer = clock.after(interval, () => this.#look())
  }

  #read(): void {
    const { entries = [] } = this.#options
    const read = this.#readFile()
    this.#addresses.clear()
    this.#names.clear()
    for (const { address, names } of [...entries, ...read]) {
      for (const name of names) {
        const known = this.#addresses.get(name.key)
        if (known) known.add(address)
        else this.#addresses.set(name.key, new Set([address]))
        if (isWildcard(name.key)) continue
        const pointers = this.#names.get(reverseKey(address)) ?? []
        if (!pointers.some(({ key }) => key === name.key)) pointers.push(name)
        this.#names.set(reverseKey(address), pointers)
      }
    }
  }

  #readFile(): readonly HostsEntry[] {
    const { file, log } = this.#options
    if (file === undefined) return []
    try {
      const { entries, problems } = parseHosts(readFileSync(file, 'utf8'))
      if (problems.length > 0) log.warn({ file, problems }, 'Some lines of the hosts file cannot be used')
      log.info({ file, entries: entries.length }, 'The hosts file was read')
      return entries
    } catch (error) {
      // As in CoreDNS: what is written in the configuration stays, the file may come back.
      log.warn({ file, error }, 'The hosts file cannot be read')
      return []
    }
  }
}

/** Existing names without such records are NODATA. No SOA: nobody shall remember what people may write down next. */
function positive(answer: Answer['answer']): Answer {
  return { ...emptyAnswer(rcodes.NOERROR), authoritative: true, answer, from: 'hosts' }
}

function isWildcard(key: NameKey): boolean {
  return key.startsWith('\x01*')
}

/** `*.example.` of `a.example.`: one label, as in CoreDNS. */
function wildcardOf(key: NameKey): NameKey {
  const [, ...rest] = labelsOfKey(key)
  return nameOfLabels(['*', ...rest])?.key ?? ''
}
