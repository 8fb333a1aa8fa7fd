/** The call is wrong, or the machine lacks something: the message says what to do, and nothing was started. */
export class BenchUsageError extends Error {
  override readonly name = 'BenchUsageError'
}
