/** A Corefile that cannot be used; the message begins with the file and the line. */
export class CorefileError extends Error {
  override readonly name = 'CorefileError'
  readonly line: number

  constructor(where: { readonly file: string; readonly line: number }, message: string, options?: ErrorOptions) {
    super(`${where.file}:${where.line}: ${message}`, options)
    this.line = where.line
  }
}
