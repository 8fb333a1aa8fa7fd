/** One thing that is wrong with an object, as the clients of Kubernetes show it (meta/v1 StatusCause). */
export interface StatusCause {
  readonly reason:
    | 'FieldValueInvalid'
    | 'FieldValueRequired'
    | 'FieldValueForbidden'
    | 'FieldValueNotSupported'
    | 'FieldValueDuplicate'
    | 'FieldManagerConflict'
    | 'ResourceVersionTooLarge'
  readonly message: string
  readonly field: string
}

/** What an error is about. */
export interface ErrorDetails {
  readonly name?: string
  readonly group?: string
  readonly kind?: string
  readonly uid?: string
  readonly causes?: readonly StatusCause[]
  readonly retryAfterSeconds?: number
}

const reasons = {
  BadRequest: 400,
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  MethodNotAllowed: 405,
  NotAcceptable: 406,
  AlreadyExists: 409,
  Conflict: 409,
  Expired: 410,
  RequestEntityTooLarge: 413,
  UnsupportedMediaType: 415,
  Invalid: 422,
  TooManyRequests: 429,
  InternalError: 500,
  Timeout: 504,
} as const

/** Machine-readable reasons of errors (meta/v1 StatusReason); each has its HTTP status. */
export type StatusReason = keyof typeof reasons

/** A request that is refused; becomes a Status object (meta/v1). */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly reason: StatusReason
  readonly details: ErrorDetails | undefined

  constructor(reason: StatusReason, message: string, options: ErrorOptions & { readonly details?: ErrorDetails } = {}) {
    super(message, options)
    this.reason = reason
    this.details = options.details
  }

  get code(): number {
    return reasons[this.reason]
  }

  /** The Status object of the answer. */
  toStatus(): object {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: this.message,
      reason: this.reason,
      ...(this.details && { details: this.details }),
      code: this.code,
    }
  }
}

/** An object that Kubernetes would call invalid: `Service "web" is invalid: spec.ports[0].port: ...` (422). */
export function invalidObject(
  object: { readonly kind: string; readonly group: string; readonly name: string },
  causes: readonly StatusCause[],
): ApiError {
  const lines = causes.map((cause) => (cause.field === '' ? cause.message : `${cause.field}: ${cause.message}`))
  const text = lines.length === 1 ? lines[0] : `[${lines.join(', ')}]`
  const { kind, group, name } = object
  return new ApiError('Invalid', `${kind}${group && `.${group}`} "${name}" is invalid: ${text}`, {
    details: { name, kind, ...(group && { group }), causes },
  })
}
