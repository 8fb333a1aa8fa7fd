import type { StatusCause } from './api-error.ts'

/** A value that is wrong: `Invalid value: "x": must be ...` (apimachinery field.Invalid). */
export function invalid(field: string, value: unknown, detail: string): StatusCause {
  return { reason: 'FieldValueInvalid', field, message: `Invalid value: ${shown(value)}: ${detail}` }
}

/** A value that is missing. */
export function required(field: string, detail = ''): StatusCause {
  return { reason: 'FieldValueRequired', field, message: `Required value${detail === '' ? '' : `: ${detail}`}` }
}

/** A value that may not be there. */
export function forbidden(field: string, detail: string): StatusCause {
  return { reason: 'FieldValueForbidden', field, message: `Forbidden: ${detail}` }
}

/** A value that is none of those that are known, which are named in their order. */
export function notSupported(field: string, value: string, supported: readonly string[]): StatusCause {
  const known = supported.map((one) => JSON.stringify(one)).join(', ')
  return {
    reason: 'FieldValueNotSupported',
    field,
    message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${known}`,
  }
}

/** A value that was there before. */
export function duplicate(field: string, value: unknown): StatusCause {
  return { reason: 'FieldValueDuplicate', field, message: `Duplicate value: ${shown(value)}` }
}

function shown(value: unknown): string {
  return JSON.stringify(value) ?? 'null'
}
