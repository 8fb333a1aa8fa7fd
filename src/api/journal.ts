import { chmodSync } from 'node:fs'
import { backup, DatabaseSync, type StatementSync } from 'node:sqlite'
import type { KubeObject } from './kube-object.ts'

/** Which object a write put or removed. */
export interface JournalChange {
  /** The kind's plural name with its group: `services`. */
  readonly resource: string
  /** Empty for kinds without namespaces. */
  readonly namespace: string
  readonly name: string
  readonly gone: boolean
}

/** One object that is stored. */
export interface JournalEntry {
  readonly resource: string
  readonly namespace: string
  readonly name: string
  readonly object: KubeObject
}

/** Where objects survive. */
export interface Journal extends Disposable {
  /** The newest revision, that of the newest change of each resource (removals, too), and all objects. */
  load(): {
    readonly revision: number
    readonly latest: ReadonlyMap<string, number>
    readonly entries: readonly JournalEntry[]
  }
  /** Writes changes, with their objects as JSON; when it returns, they survive a loss of power. Throws when they do not. */
  commit(
    changes: readonly JournalChange[],
    commit: { readonly texts: readonly string[]; readonly revision: number },
  ): void
  /** Writes a copy of everything that was committed. */
  backup(file: string): Promise<void>
}

/** The number of the layout; a newer one is refused. */
const layout = 1

/** The log is folded into the file when it has so many pages of 4 KiB: seldom, for it holds up whoever writes, some 50 ms. */
const checkpointPages = 8000
/** Bytes of the log that stay on the disk after that. */
const maxLog = 64 << 20

/**
 * Opens (or makes) the SQLite file of the objects. WAL with `synchronous=FULL`: a commit is on the disk when it returns
 * (https://sqlite.org/pragma.html#pragma_synchronous), and readers of the file, like a backup, hold up nobody.
 */
export function openJournal(file: string): Journal {
  const database = new DatabaseSync(file)
  try {
    // The file holds whatever the user put into objects.
    if (file !== ':memory:') chmodSync(file, 0o600)
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    database.exec(`PRAGMA wal_autocheckpoint = ${checkpointPages}; PRAGMA journal_size_limit = ${maxLog}`)
    const version = database.prepare('PRAGMA user_version').get()?.['user_version']
    if (Number(version) > layout) {
      throw new Error(`${file} was written by a newer fairlead (layout ${String(version)}, known is ${layout})`)
    }
    database.exec(`
      CREATE TABLE IF NOT EXISTS objects (
        resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, object TEXT NOT NULL,
        PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS latest (resource TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS revision (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL);
      INSERT OR IGNORE INTO revision VALUES (1, 1);
      PRAGMA user_version = ${layout}`)
    return new SqliteJournal(database)
  } catch (error) {
    database.close()
    throw error
  }
}

class SqliteJournal implements Journal {
  readonly #database: DatabaseSync
  readonly #put: StatementSync
  readonly #remove: StatementSync
  readonly #setLatest: StatementSync
  readonly #setRevision: StatementSync

  constructor(database: DatabaseSync) {
    this.#database = database
    this.#put = database.prepare('INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)')
    this.#remove = database.prepare('DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?')
    this.#setLatest = database.prepare('INSERT OR REPLACE INTO latest VALUES (?, ?)')
    this.#setRevision = database.prepare('UPDATE revision SET value = ?')
  }

  load(): { revision: number; latest: ReadonlyMap<string, number>; entries: readonly JournalEntry[] } {
    const revision = Number(this.#database.prepare('SELECT value FROM revision').get()?.['value'])
    const rows = this.#database.prepare('SELECT * FROM objects').iterate()
    const entries = Array.from(rows, (row) => ({
      resource: String(row['resource']),
      namespace: String(row['namespace']),
      name: String(row['name']),
      object: JSON.parse(String(row['object'])) as KubeObject,
    }))
    const newest = this.#database.prepare('SELECT * FROM latest').all()
    const latest = new Map(newest.map((row) => [String(row['resource']), Number(row['revision'])]))
    return { revision, latest, entries }
  }

  commit(
    changes: readonly JournalChange[],
    { texts, revision }: { readonly texts: readonly string[]; readonly revision: number },
  ): void {
    this.#database.exec('BEGIN IMMEDIATE')
    try {
      for (const [index, { resource, namespace, name, gone }] of changes.entries()) {
        if (gone) this.#remove.run(resource, namespace, name)
        else this.#put.run(resource, namespace, name, texts[index] ?? '')
      }
      // Not exact within one commit, and never too old.
      for (const resource of new Set(changes.map(({ resource }) => resource))) this.#setLatest.run(resource, revision)
      this.#setRevision.run(revision)
      this.#database.exec('COMMIT')
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  async backup(file: string): Promise<void> {
    await backup(this.#database, file)
    chmodSync(file, 0o600)
  }

  [Symbol.dispose](): void {
    this.#database.close()
  }
}
