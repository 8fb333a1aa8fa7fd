import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { serviceModes, type ServiceMode } from './services-config.ts'

/** Remembers, over restarts, the mode whose rules are in the kernel: another one then takes them over. */
export class ModeRecord {
  readonly #file: string

  /** `file` is a path below the state directory. */
  constructor(file: string) {
    this.#file = file
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

  write(mode: ServiceMode): void {
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 })
    writeFileSync(`${this.#file}.new`, `${mode}\n`)
    renameSync(`${this.#file}.new`, this.#file)
  }
}
