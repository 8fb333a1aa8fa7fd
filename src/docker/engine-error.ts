/** A Docker engine that cannot be reached, or that refuses what it was asked. */
export class EngineError extends Error {
  override readonly name = 'EngineError'
  /** Of its answer; undefined: it gave none. */
  readonly status: number | undefined

  constructor(message: string, options: ErrorOptions & { readonly status?: number } = {}) {
    super(message, options)
    this.status = options.status
  }
}
