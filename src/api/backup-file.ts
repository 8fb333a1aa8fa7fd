import { chmodSync, copyFileSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { DatabaseSync } from 'node:sqlite'

/** What a file of objects holds. */
export interface BackupContents {
  readonly revision: number
  readonly objects: number
}

/** A file that is no usable backup; the message is for the user. */
export class BackupError extends Error {
  override readonly name = 'BackupError'
}

/** What watches of before a restore are behind by: they are told 410 and list again, whatever happens next. */
const revisionStep = 1000

/** Looks at every page of a backup, and counts what it holds. Throws {@link BackupError}. */
export function verifyBackup(file: string): BackupContents {
  if (!existsSync(file)) throw new BackupError(`${file}: there is no such file`)
  // Nobody writes it, and nothing is to be left beside it.
  const location = pathToFileURL(resolve(file))
  location.searchParams.set('immutable', '1')
  return withDatabase(location, { readOnly: true }, (database) => {
    const problems = database.prepare('PRAGMA integrity_check(5)').all()
    const first = String(problems[0]?.['integrity_check'])
    if (first !== 'ok') throw new BackupError(`${file} is damaged: ${first}`)
    const rows = database.prepare('SELECT object FROM objects').iterate()
    let objects = 0
    for (const row of rows) {
      JSON.parse(String(row['object']))
      objects++
    }
    return { revision: revisionOf(database), objects }
  })
}

/**
 * Puts a backup in the place of the objects of a daemon that is stopped. What was there before is kept beside it, as
 * `FILE.before-restore`. The revision goes on from the higher one of both, so that no watch takes old objects for new ones
 * (as etcd's `--bump-revision --mark-compacted`). Throws {@link BackupError}.
 */
export function restoreBackup(file: string, target: string): BackupContents {
  const { revision, objects } = verifyBackup(file)
  mkdirSync(dirname(target), { recursive: true, mode: 0o700 })
  const before = existsSync(target) ? withDatabase(target, {}, revisionOf) : 0
  const next = Math.max(revision, before) + revisionStep
  const temporary = `${target}.restore`
  copyFileSync(file, temporary)
  chmodSync(temporary, 0o600)
  withDatabase(temporary, {}, (database) => {
    database.prepare('UPDATE revision SET value = ?').run(next)
    database.prepare('INSERT OR REPLACE INTO latest SELECT DISTINCT resource, ? FROM objects').run(next)
    database.prepare('UPDATE latest SET revision = ?').run(next)
  })
  if (before > 0) renameSync(target, `${target}.before-restore`)
  // They belong to what was there before; it was folded into its file when it was opened and closed here.
  for (const suffix of ['-wal', '-shm']) rmSync(`${target}${suffix}`, { force: true })
  renameSync(temporary, target)
  return { revision: next, objects }
}

function revisionOf(database: DatabaseSync): number {
  return Number(database.prepare('SELECT value FROM revision').get()?.['value'])
}

function withDatabase<T>(
  location: string | URL,
  options: { readOnly?: boolean },
  run: (database: DatabaseSync) => T,
): T {
  const file = typeof location === 'string' ? location : fileURLToPath(location)
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(location, options)
    return run(database)
  } catch (error) {
    if (error instanceof BackupError) throw error
    if (/locked/.test((error as Error).message)) {
      throw new BackupError(`${file} is in use: stop the daemon first`, { cause: error })
    }
    throw new BackupError(`${file} is no file of objects: ${(error as Error).message}`, { cause: error })
  } finally {
    database?.close()
  }
}
