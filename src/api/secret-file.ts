import { createHash } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'

/** The text of a file; undefined when there is none. */
export function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Writes a file (mode 0600), whole or not at all, and never readable by others in between. */
export function writeSecret(file: string, text: string): void {
  const temporary = `${file}.new`
  writeFileSync(temporary, text, { mode: 0o600 })
  renameSync(temporary, file)
}

/** What is compared of a token, and kept where the token itself need not be (SHA-256). */
export function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
