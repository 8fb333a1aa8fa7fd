import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { getSystemErrorMap } from 'node:util'

/** A file of ours that cannot be read or written. The message names the file and the reason. */
export class StateFileError extends Error {
  override readonly name = 'StateFileError'
  /** As errno(3) has it: `ENOSPC`. */
  readonly code: string | undefined

  constructor(verb: 'read' | 'write', path: string, cause: NodeJS.ErrnoException) {
    const known = cause.errno === undefined ? undefined : getSystemErrorMap().get(cause.errno)
    super(`cannot ${verb} ${path}: ${known ? `${known[1]} (${known[0]})` : cause.message}`, { cause })
    this.code = cause.code
  }
}

/** Makes a folder for state files, readable by root only, where there is none. Throws {@link StateFileError}. */
export function makeStateFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new StateFileError('write', path, error as NodeJS.ErrnoException)
  }
}

/**
 * Writes a file so that a kill at any moment leaves either the old content or the new. Readable by root only. Throws
 * {@link StateFileError}.
 */
export function writeStateFile(path: string, content: string): void {
  const temporary = `${path}.new`
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    const file = openSync(temporary, 'w', 0o600)
    try {
      // Not writeSync(): on a disk that is almost full it writes a part and says so only by its result.
      writeFileSync(file, content)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
  } catch (error) {
    throw new StateFileError('write', path, error as NodeJS.ErrnoException)
  }
}

/** Removes the file. One that is not there is no error. */
export function removeStateFile(path: string): void {
  rmSync(path, { force: true })
}

/** The content, or undefined when there is no such file. Throws {@link StateFileError}. */
export function readStateFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new StateFileError('read', path, error as NodeJS.ErrnoException)
  }
}
