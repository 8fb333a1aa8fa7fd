/** Text that is not what it should be. The message names the value and what was expected; callers add the field's path. */
export class ParseError extends Error {
  override readonly name = 'ParseError'
}
