const messageLimit = 300

/** An answer of the API server that is not success, from its `Status` object where it sent one. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  /** The HTTP status, or the code of an ERROR event of a watch. */
  readonly status: number
  /** `Expired`, `Invalid`, `Forbidden` ...; empty when the answer was no Status object. */
  readonly reason: string
  /** What `Retry-After` asks for, ms. */
  readonly retryAfterMs: number | undefined

  constructor(message: string, answer: { status: number; reason?: string; retryAfterMs?: number | undefined }) {
    super(message)
    this.status = answer.status
    this.reason = answer.reason ?? ''
    this.retryAfterMs = answer.retryAfterMs
  }

  /** Reads a `Status` (meta/v1), as it comes in bodies of errors and in ERROR events. */
  static fromStatus(
    body: unknown,
    fallback: { status: number; text: string; retryAfterMs?: number | undefined },
  ): ApiError {
    const status = typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {}
    const code = typeof status['code'] === 'number' ? status['code'] : fallback.status
    const reason = typeof status['reason'] === 'string' ? status['reason'] : ''
    const message = typeof status['message'] === 'string' ? status['message'] : fallback.text
    const said = message === '' ? 'no reason given' : oneLine(message)
    return new ApiError(`the API server answers ${code}: ${said}`, {
      status: code,
      reason,
      retryAfterMs: fallback.retryAfterMs,
    })
  }
}

/** What a server says goes into logs and onto terminals: no control characters, and not for ever. */
function oneLine(text: string): string {
  const line = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trim()
  return line.length > messageLimit ? `${line.slice(0, messageLimit)}...` : line
}

/** The resource version that was asked for is gone: only a new list helps. */
export function isExpired(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 410 || error.reason === 'Expired' || error.reason === 'Gone')
}

/** The server has not got as far as the resource version that was asked for: it is behind, or was restored. */
export function isAhead(error: unknown): boolean {
  // A proxy in between that says 504 gives no reason.
  return error instanceof ApiError && error.status === 504 && error.reason === 'Timeout'
}

/** The server does not know the resource (404), or lets nobody like us read it (403). */
export function isNotServed(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 404 || error.status === 403)
}

/** An answer that breaks the protocol: no JSON, or an object without a name. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
}

/** No sign of life for too long. */
export class SilenceError extends Error {
  override readonly name = 'SilenceError'
}

/** A kubeconfig, a credential or a certificate that cannot be used. The message is for the user and has no secrets. */
export class AccessError extends Error {
  override readonly name = 'AccessError'
}
