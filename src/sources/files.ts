import { readFileSync } from 'node:fs'
import { systemClock, type Clock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { emptySnapshot, sameSnapshot } from '../model/snapshot.ts'
import { isNotFound, listFiles, type FileListing, type FileStamp } from './list-files.ts'
import { definitionsOf, problemsOf, readManifestFile, type ManifestFile } from './manifest-file.ts'
import { ObjectIndex } from './object-index.ts'
import { ProblemLog } from './problem-log.ts'
import type { Problem, Source, SourceState } from './source.ts'
import { StringPool } from './string-pool.ts'
import { FolderWatches } from './watch-folders.ts'

/** How a file source works. */
export interface FilesOptions {
  readonly log: Log
  /** @default systemClock */
  readonly clock?: Clock
  /** Stops watching when aborted. */
  readonly signal?: AbortSignal
  /** Called after each change, as {@link Source.subscribe} does. */
  readonly onChange?: (state: SourceState) => void
  /**
   * Milliseconds between looks that no event asks for. Network and VM folders (NFS, 9p, vboxsf) tell nothing of changes
   * made elsewhere.
   *
   * @default 30_000
   */
  readonly lookInterval?: number
}

/** A change is read once nothing happened for this long: writers seldom write in one go. */
const quietMs = 50
/** ... but at the latest this long after the first event. */
const patienceMs = 500
/** Looks during which something changed are held back this long, and then count as they are. */
const heldBackMs = 2000
/** Longest stretch of work before the event loop gets its turn: DNS is answered by the same loop. */
const stretchMs = 5
/** A file this young may change again without its time stamp moving (the kernel's clock tick is up to 10 ms). */
const racyMs = 20

/** Reads the manifests of a file or folder once. */
export async function readFiles(path: string, options: { readonly log: Log }): Promise<SourceState> {
  using source = new FileSource(path, { ...options, watch: false })
  await source.loaded
  return source.current
}

/** Reads the manifests of a file or folder (`*.yaml`, `*.yml`, `*.json`, recursively) and follows their changes. */
export function watchFiles(path: string, options: FilesOptions): FileSource {
  return new FileSource(path, { ...options, watch: true })
}

/** The manifests below one path. Made by {@link watchFiles}; dispose it to stop. */
export class FileSource implements Source, Disposable {
  readonly name: string
  /** Resolves after the first look; `current.synced` then says whether there was something to look at. */
  readonly loaded: Promise<void>
  readonly #root: string
  readonly #log: Log
  readonly #clock: Clock
  readonly #lookInterval: number
  readonly #watches: FolderWatches | undefined
  readonly #problemLog: ProblemLog
  readonly #index = new ObjectIndex()
  readonly #strings = new StringPool()
  readonly #files = new Map<string, { file: ManifestFile; stamp: FileStamp; racy: boolean }>()
  readonly #unreadable = new Map<string, Problem>()
  readonly #ignoredKinds = new Set<string>()
  readonly #listeners = new Set<(state: SourceState) => void>()
  #current: SourceState = { snapshot: emptySnapshot, problems: [], synced: false }
  #timer: Timer | undefined
  #firstEvent: number | undefined
  /** When the event loop had its last turn, as far as a look knows. */
  #stretchStart = 0
  #looking = false
  #lookAgain = false
  /** Something changed during the look: what it read may be of two states. */
  #disturbed = false
  /** When the first look began whose result was held back. */
  #heldBack: number | undefined
  #stopped = false

  constructor(path: string, options: FilesOptions & { readonly watch: boolean }) {
    this.name = `files ${path}`
    this.#root = path
    this.#log = options.log
    this.#clock = options.clock ?? systemClock
    this.#lookInterval = options.lookInterval ?? 30_000
    this.#problemLog = new ProblemLog(options.log)
    this.#watches = options.watch ? new FolderWatches({ onEvent: () => this.#onEvent(), log: options.log }) : undefined
    if (options.onChange) this.#listeners.add(options.onChange)
    if (options.signal?.aborted) this[Symbol.dispose]()
    options.signal?.addEventListener('abort', () => this[Symbol.dispose](), { once: true })
    this.loaded = this.#look()
  }

  get current(): SourceState {
    return this.#current
  }

  subscribe(listener: (state: SourceState) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  [Symbol.dispose](): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#watches?.[Symbol.dispose]()
    this.#listeners.clear()
  }

  #onEvent(): void {
    if (this.#stopped) return
    if (this.#looking) {
      this.#lookAgain = true
      this.#disturbed = true
      return
    }
    const now = this.#clock.monotonic()
    this.#firstEvent ??= now
    this.#schedule(Math.max(0, Math.min(quietMs, this.#firstEvent + patienceMs - now)))
  }

  #schedule(ms: number): void {
    this.#timer?.cancel()
    this.#timer = this.#clock.after(ms, () => {
      this.#look().catch((error: unknown) => this.#log.error({ error, path: this.#root }, 'cannot read the manifests'))
    })
  }

  async #look(): Promise<void> {
    this.#looking = true
    this.#lookAgain = false
    this.#disturbed = false
    this.#firstEvent = undefined
    const started = (this.#stretchStart = this.#clock.monotonic())
    try {
      const listing = await this.#inStretches(listFiles(this.#root))
      if (!this.#stopped) this.#watches?.set(this.#root, listing?.folders ?? new Map())
      const read = await this.#readChanged(listing)
      if (!this.#holdsBack(started)) this.#publish({ complete: listing !== undefined && listing.failures.length === 0 })
      const ms = Math.round(this.#clock.monotonic() - started)
      if (read > 0) this.#log.debug({ path: this.#root, files: read, ms }, 'read manifest files')
    } finally {
      this.#strings.clear()
      this.#looking = false
      if (!this.#stopped && this.#watches) {
        if (this.#lookAgain) this.#onEvent()
        else this.#schedule(this.#lookInterval)
      }
    }
  }

  /** A change of many files becomes one snapshot: while somebody still writes, nothing is said, but not for ever. */
  #holdsBack(started: number): boolean {
    this.#heldBack ??= started
    const holds = this.#disturbed && this.#current.synced && this.#clock.monotonic() - this.#heldBack < heldBackMs
    if (!holds) this.#heldBack = undefined
    return holds
  }

  /** Reads files that are new or changed; returns how many. Without a listing, all stays as it is. */
  async #readChanged(listing: FileListing | undefined): Promise<number> {
    this.#unreadable.clear()
    if (!listing) {
      this.#fail(this.#root, 'is not there; what was read before stays')
      return 0
    }
    for (const { path, error } of listing.failures) this.#fail(path, `cannot be read: ${error.message}`)
    let read = 0
    for (const [path, stamp] of listing.files) {
      const known = this.#files.get(path)
      if (known && !known.racy && sameStamp(known.stamp, stamp)) continue
      if (await this.#readFile(path, stamp)) read++
    }
    // What cannot be listed may still be there: nothing goes on partial information.
    if (listing.failures.length > 0) return read
    for (const [path, { file }] of this.#files) {
      if (!listing.files.has(path)) this.#replace(path, file, undefined)
    }
    return read
  }

  async #readFile(path: string, stamp: FileStamp): Promise<boolean> {
    const before = this.#files.get(path)?.file
    const racy = Math.abs(this.#clock.now().getTime() - stamp.modified) < racyMs
    let text: string
    try {
      text = readFileSync(path, 'utf8')
    } catch (error) {
      if (isNotFound(error)) this.#replace(path, before, undefined)
      else this.#fail(path, `cannot be read: ${error instanceof Error ? error.message : String(error)}`)
      return false
    }
    const file = await this.#inStretches(readManifestFile(text, { path, before, intern: this.#strings.intern }))
    this.#replace(path, before, file)
    this.#files.set(path, { file, stamp, racy })
    if (racy) this.#lookAgain = true
    return true
  }

  #replace(path: string, before: ManifestFile | undefined, after: ManifestFile | undefined): void {
    this.#index.replace(definitionsOf(before), definitionsOf(after))
    if (!after) this.#files.delete(path)
    for (const kind of after?.documents.flatMap((document) => document.ignoredKinds) ?? []) {
      if (this.#ignoredKinds.has(kind)) continue
      this.#ignoredKinds.add(kind)
      this.#log.info({ kind, file: path }, 'objects of this kind are ignored')
    }
  }

  #publish(look: { complete: boolean }): void {
    if (this.#stopped) return
    const snapshot = this.#index.commit()
    const problems = [...this.#unreadable.values()]
    for (const { file } of this.#files.values()) problems.push(...problemsOf(file))
    problems.push(...this.#index.conflicts())
    const synced = this.#current.synced || look.complete
    const changed = this.#problemLog.update(problems)
    const same = !changed && synced === this.#current.synced && sameSnapshot(snapshot, this.#current.snapshot)
    this.#current = { snapshot, problems, synced }
    if (same) return
    for (const listener of this.#listeners) listener(this.#current)
  }

  #fail(path: string, reason: string): void {
    this.#unreadable.set(path, { severity: 'error', file: path, reason })
  }

  /** Runs a generator to its end, letting the event loop turn every {@link stretchMs}. */
  async #inStretches<T>(work: Generator<void, T>): Promise<T> {
    for (;;) {
      const step = work.next()
      if (step.done) return step.value
      if (this.#clock.monotonic() - this.#stretchStart < stretchMs) continue
      await new Promise((resolve) => setImmediate(resolve))
      this.#stretchStart = this.#clock.monotonic()
    }
  }
}

function sameStamp(a: FileStamp, b: FileStamp): boolean {
  return a.modified === b.modified && a.size === b.size && a.inode === b.inode
}
