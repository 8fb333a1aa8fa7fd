import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { BenchUsageError } from './usage-error.ts'

/** Makes the folder for results, and tries to write there, so that an hour of measuring does not end in an error. Throws {@link BenchUsageError}. */
export function makeOutFolder(path: string): void {
  if (path.trim() === '') throw new BenchUsageError('--out: expected a folder')
  try {
    makeFolder(resolve(path))
    const probe = join(path, `.bench-${process.pid}`)
    writeFileSync(probe, '')
    rmSync(probe)
  } catch (error) {
    throw new BenchUsageError(`--out ${path}: cannot write there: ${(error as Error).message}`, { cause: error })
  }
}

/** mkdir -p. That of Node 24 does not come back from a folder that cannot have others in it (/proc). */
function makeFolder(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return
  if (dirname(path) !== path) makeFolder(dirname(path))
  mkdirSync(path)
}
