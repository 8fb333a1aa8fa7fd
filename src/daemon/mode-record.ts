import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Log } from '../base/log.ts'
import { serviceModes, type ServiceMode } from './services-config.ts'

/** Remembers, over restarts, the mode whose rules are in the kernel: another one then takes them over. */
export class ModeRecord {
  readonly #file: string
  readonly #log: Log

  /** `file` is a path below the state directory. */
  constructor(file: string, options: { readonly log: Log }) {
    this.#file = file
    this.#log = options.log
  }

  /** Undefined when nothing is known. */
  read(): ServiceMode | undefined {
    try {
      const text = readFileSync(this.#file, 'utf8').trim()
      return serviceModes.find((mode) => mode === text)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  }

  /** A full disk is a warning: Services work, and only a start in another mode will not know what to remove. */
  write(mode: ServiceMode): void {
    try {
      mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 })
      writeFileSync(`${this.#file}.new`, `${mode}\n`)
      renameSync(`${this.#file}.new`, this.#file)
    } catch (error) {
      this.#log.warn({ err: error, file: this.#file }, 'the mode in the kernel cannot be remembered')
    }
  }
}
