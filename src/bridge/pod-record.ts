import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Log } from '../base/log.ts'
import { parsePort, type Port } from '../net/port.ts'
import { parseProtocol, type Protocol } from '../net/protocol.ts'
import { parseReadinessProbe, type ReadinessProbe } from '../probes/readiness-probe.ts'
import { podOwner, type Owner } from './names.ts'
import { makeStateFolder, readStateFile, writeStateFile } from './state-file.ts'

/** A named port of a pod, for `targetPort: name`. */
export interface PodPort {
  readonly name: string
  readonly protocol: Protocol
  readonly port: Port
}

/** What is remembered of a pod on disk. Its addresses are in the lease journal. */
export interface PodRecord {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly network: string
  /** Empty: nothing runs in it by itself. */
  readonly command: readonly string[]
  readonly ports: readonly PodPort[]
  readonly bootId: string
  /** RFC 3339. */
  readonly started: string
  /**
   * `creating` is written before anything is made, and `removing` before anything is taken away: a pod found so at start
   * is removed whole. `created` is written when all of it is there.
   */
  readonly phase: 'creating' | 'created' | 'removing'
  /** The supervising shell. The start time (in clock ticks since boot) tells it from a later process with its number. */
  readonly process: { readonly pid: number; readonly startTime: string } | undefined
  /** How the command ended; the code is undefined when nobody saw it (the shell was killed, too). */
  readonly exit: { readonly code: number | undefined; readonly time: string } | undefined
  /** How it is asked whether it is ready; absent: it is while its command runs. */
  readonly readinessProbe?: ReadinessProbe
  /** What that said last; absent: nothing yet. */
  readonly ready?: boolean
}

/** The files of one pod. */
export interface PodFiles {
  readonly folder: string
  readonly record: string
  readonly resolvConf: string
  /** Standard output and standard error of the command. */
  readonly log: string
  /** The shell writes the command's exit code here. */
  readonly exit: string
}

/** The pods on disk: a folder each, `NAMESPACE.NAME` below the state directory's `pods`. */
export class PodStore {
  readonly #folder: string
  readonly #records = new Map<Owner, PodRecord>()

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** Reads all records. A folder without a usable one is removed: what it may have made is found by its namespace. */
  static open(folder: string, log: Log): PodStore {
    const store = new PodStore(folder)
    makeStateFolder(folder)
    for (const name of readdirSync(folder)) {
      const path = join(folder, name)
      try {
        const text = readStateFile(join(path, 'pod.json'))
        const record = text === undefined ? undefined : parsePodRecord(JSON.parse(text))
        if (record) {
          store.#records.set(podOwner(record), record)
          continue
        }
        log.info({ folder: path }, 'Removing a pod that was never begun')
      } catch (error) {
        log.warn({ folder: path, err: error }, 'Removing a pod whose record cannot be read')
      }
      rmSync(path, { recursive: true, force: true })
    }
    return store
  }

  /** All records. */
  get records(): ReadonlyMap<Owner, PodRecord> {
    return this.#records
  }

  /** Where a pod's files are. */
  files(pod: { readonly namespace: string; readonly name: string }): PodFiles {
    const folder = join(this.#folder, `${pod.namespace}.${pod.name}`)
    return {
      folder,
      record: join(folder, 'pod.json'),
      resolvConf: join(folder, 'resolv.conf'),
      log: join(folder, 'log'),
      exit: join(folder, 'exit'),
    }
  }

  /** Writes a record, and returns it. Throws StateFileError; then nothing changed. */
  put(record: PodRecord): PodRecord {
    writeStateFile(this.files(record).record, `${JSON.stringify(record)}\n`)
    this.#records.set(podOwner(record), record)
    return record
  }

  /** As {@link put}, but in memory only: for a disk that takes nothing. */
  putInMemory(record: PodRecord): PodRecord {
    this.#records.set(podOwner(record), record)
    return record
  }

  /** Forgets a pod and deletes its files. */
  delete(pod: { readonly namespace: string; readonly name: string }): void {
    rmSync(this.files(pod).folder, { recursive: true, force: true })
    this.#records.delete(podOwner(pod))
  }
}

/** Reads a record of ours. Throws TypeError or ParseError when a field is missing or not what it should be. */
export function parsePodRecord(value: unknown): PodRecord {
  const record = value as Partial<PodRecord>
  const { namespace, name, labels, network, command, ports, bootId, started, phase, process, exit } = record
  const texts = [namespace, name, network, bootId, started]
  const isWhole =
    texts.every((text) => typeof text === 'string' && text !== '') &&
    typeof labels === 'object' &&
    Array.isArray(command) &&
    Array.isArray(ports) &&
    (phase === 'creating' || phase === 'created' || phase === 'removing')
  if (!isWhole) throw new TypeError('a field of the pod record is missing')
  return {
    ...(record as PodRecord),
    ports: ports.map((port) => ({
      name: String(port.name),
      protocol: parseProtocol(port.protocol),
      port: parsePort(port.port),
    })),
    // JSON leaves undefined fields out.
    process,
    exit: exit && { code: exit.code, time: exit.time },
    ...(record.readinessProbe && { readinessProbe: parseReadinessProbe(record.readinessProbe) }),
  }
}
