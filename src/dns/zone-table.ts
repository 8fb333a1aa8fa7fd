import { randomInt } from 'node:crypto'
import type { Log } from '../base/log.ts'
import { isAtOrBelow, labelsOfKey, type NameKey, nameOfLabels } from '../dns-message/name.ts'
import { recordTypes } from '../dns-message/record-set.ts'
import { tableFlags } from '../dns-workers/answer-memory.ts'
import { AnswerTable, type FinishedName } from '../dns-workers/answer-table.ts'
import { type ObjectKey, objectKey } from '../model/object-key.ts'
import type { ClusterZone, ZoneChange } from './cluster-zone.ts'
import { finishDenial, finishName, nameOfKey } from './finish-names.ts'

export interface ZoneTableOptions {
  readonly zone: ClusterZone
  readonly log: Log
  /** Octets of memory at most. */
  readonly limit?: number
}

/** Milliseconds of one update that may go into finishing answers anew; the rest is finished when it is asked for. */
const finishTime = 5

/**
 * Keeps the answers of a zone finished for workers ({@link AnswerTable}). Every Service has its name there from the start; its
 * answers are finished when somebody has asked for them, and from then on with each change of it, so that what is in use is always ready
 * and the rest takes little room. An update counts for all workers at once, before {@link ClusterZone.update} returns.
 */
export class ZoneTable {
  readonly table: AnswerTable
  readonly #zone: ClusterZone
  readonly #log: Log
  readonly #zoneLabels: readonly string[]
  /** Services of which answers are finished, and which ones. */
  readonly #finished = new Map<ObjectKey, Extent>()
  #passesOn = false
  #toldFull = false

  constructor({ zone, log, limit }: ZoneTableOptions) {
    this.#zone = zone
    this.#log = log
    this.#zoneLabels = labelsOfKey(zone.name.key)
    this.table = new AnswerTable({
      zone: zone.name.key,
      seed: randomInt(2 ** 32),
      ...(limit === undefined ? {} : { limit }),
    })
    this.table.setFlag(tableFlags.passDenials, true)
    for (const [key, entry] of zone.fixedNames) {
      // Some of their denials are compressed in their own way, and the SOA record is made for each question.
      const name = finishName(zone, nameOfKey(key), { entry, isClosed: false })
      this.table.replace([{ ...name, kind: 'partlyKnown' }])
    }
    zone.watch((change) => this.#update(change))
  }

  /** All questions are somebody else's to answer. */
  passAll(on: boolean): void {
    this.table.setFlag(tableFlags.passAll, on || this.table.isFull)
  }

  /** Names that do not exist are somebody else's to answer. */
  passDenials(on: boolean): void {
    this.#passesOn = on
    this.table.setFlag(tableFlags.passDenials, on)
  }

  /** Questions of those who speak EDNS are somebody else's to answer. */
  passEdns(on: boolean): void {
    this.table.setFlag(tableFlags.passEdns, on)
  }

  /** Finishes answers of the Service that a name belongs to, since a question about the name, of this type, was asked. */
  learn(name: NameKey, type: number): void {
    if (!isAtOrBelow(name, this.#zone.name.key)) return
    const labels = labelsOfKey(name)
    const [service, namespace, kind] = labels.slice(0, labels.length - this.#zoneLabels.length).slice(-3)
    if (kind !== 'svc' || service === undefined || namespace === undefined) return
    const key = objectKey({ namespace, name: service })
    const isDeep = labels.length > this.#zoneLabels.length + 3
    const extent = isDeep ? 'all' : type === recordTypes.SRV ? 'own' : 'addresses'
    const known = this.#finished.get(key)
    if (known && extents.indexOf(known) >= extents.indexOf(extent)) return
    const names = this.#finish(key, extent)
    if (!names) return
    this.table.replace(names)
    this.#finished.set(key, extent)
    this.#tellFull()
  }

  #update({ services, namespaces, synced }: ZoneChange): void {
    const { table } = this
    const ready = this.#finishAnew(services)
    const denial = finishDenial(this.#zone, nameOfKey(`\x01x${this.#zone.name.key}`))
    table.change(() => {
      table.setFlag(tableFlags.passDenials, this.#passesOn || !synced)
      table.setDenial(denial)
      for (const key of services) this.#change(key, ready.get(key))
      for (const [namespace, exists] of namespaces) {
        const name = this.#nameKey([namespace, 'svc'])
        if (name === undefined) continue
        if (exists) table.replace([{ key: name, kind: 'known', isClosed: false, answers: [] }])
        else table.remove(name)
      }
    })
    this.#tellFull()
  }

  /** The new answers of those that were finished, as far as there is time. */
  #finishAnew(services: ReadonlySet<ObjectKey>): Map<ObjectKey, [FinishedName, ...FinishedName[]]> {
    const began = performance.now()
    const ready = new Map<ObjectKey, [FinishedName, ...FinishedName[]]>()
    for (const key of services) {
      const extent = this.#finished.get(key)
      if (!extent) continue
      if (performance.now() - began > finishTime) break
      const names = this.#finish(key, extent)
      if (names) ready.set(key, names)
    }
    return ready
  }

  #change(key: ObjectKey, names: [FinishedName, ...FinishedName[]] | undefined): void {
    const name = this.#serviceName(key)
    if (name === undefined) return
    if (names) {
      this.table.replace(names)
      return
    }
    this.#finished.delete(key)
    if (this.#zone.has(key)) this.table.replace([{ key: name, kind: 'unknown', isClosed: false, answers: [] }])
    else this.table.remove(name)
  }

  /** The names of a Service with their answers, its own name first; undefined when there is no such Service. */
  #finish(service: ObjectKey, extent: Extent): [FinishedName, ...FinishedName[]] | undefined {
    const entries = this.#zone.namesOf(service, extent === 'all' ? 'all' : 'own')
    const base = this.#serviceName(service)
    if (!entries || base === undefined) return undefined
    const first = entries.get(base)
    const isClosed = extent === 'all'
    const types = extent === 'addresses' ? { types: addressTypes } : {}
    const names: [FinishedName, ...FinishedName[]] = [
      first
        ? finishName(this.#zone, nameOfKey(base), { entry: first, isClosed, ...types })
        : { key: base, kind: 'absent', isClosed, answers: [] },
    ]
    for (const [key, entry] of extent === 'addresses' ? [] : entries) {
      if (key === base) continue
      // Names of ports are asked for SRV, names of endpoints for addresses; the rest would only take room.
      const isPort = key.charCodeAt(1) === 0x5f
      names.push(
        finishName(this.#zone, nameOfKey(key), { entry, isClosed: false, types: isPort ? portTypes : addressTypes }),
      )
    }
    // The next question finds the answers; records that were kept beside them would live just long enough to become the old garbage of the heap.
    this.#zone.forget(service)
    return names
  }

  #serviceName(key: ObjectKey): NameKey | undefined {
    const at = key.indexOf('/')
    return this.#nameKey([key.slice(at + 1), key.slice(0, at), 'svc'])
  }

  /** The key of a name below the zone; undefined when nobody can ask for it: too long, or not in lower case. */
  #nameKey(labels: readonly string[]): NameKey | undefined {
    const name = nameOfLabels([...labels, ...this.#zoneLabels])
    const own = name && labelsOfKey(name.key)
    return own && labels.every((label, i) => own[i] === label) ? name.key : undefined
  }

  #tellFull(): void {
    if (!this.table.isFull || this.#toldFull) return
    this.#toldFull = true
    this.#log.error(
      { names: this.table.names },
      'The memory for finished DNS answers is full: all queries are answered by the main thread',
    )
  }
}

/**
 * What is finished of a Service, less first: the addresses of its own name, which nearly all questions are about; its own name and those of its ports; those of its
 * endpoints, too, which are asked for where there is no cluster IP.
 */
const extents = ['addresses', 'own', 'all'] as const
type Extent = (typeof extents)[number]

const addressTypes = [recordTypes.A, recordTypes.AAAA]
const portTypes = [recordTypes.SRV, recordTypes.A, recordTypes.AAAA]
