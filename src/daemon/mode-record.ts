import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Log } from '../base/log.ts'
import { serviceModes, type ServiceMode } from './services-config.ts'

/**
 * Remembers, over restarts, the modes that may have rules in the kernel: two while one takes over from the other, so that a
 * daemon that is killed in between leaves nothing behind that its next start does not know of.
 */
export class ModeRecord {
  readonly #file: string
  readonly #log: Log

  /** `file` is a path below the state directory. */
  constructor(file: string, options: { readonly log: Log }) {
    this.#file = file
    this.#log = options.log
  }

  /** Empty when nothing is known. */
  read(): readonly ServiceMode[] {
    try {
      const names = readFileSync(this.#file, 'utf8').trim().split(' ')
      return serviceModes.filter((mode) => names.includes(mode))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw error
    }
  }

  /** A full disk is a warning: Services work, and only a start in another mode will not know what to remove. */
  write(modes: Iterable<ServiceMode>): void {
    try {
      mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 })
      writeFileSync(`${this.#file}.new`, `${[...new Set(modes)].join(' ')}\n`)
      renameSync(`${this.#file}.new`, this.#file)
    } catch (error) {
      this.#log.warn({ err: error, file: this.#file }, 'the mode in the kernel cannot be remembered')
    }
  }
}
