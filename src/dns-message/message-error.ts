/** A message that does not follow RFC 1035's format. `offset` is the octet where reading stopped. */
export class MessageError extends Error {
  override readonly name = 'MessageError'
  readonly offset: number

  constructor(message: string, offset: number) {
    super(`${message} at octet ${offset}`)
    this.offset = offset
  }
}
