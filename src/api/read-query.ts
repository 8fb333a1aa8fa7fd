import { ApiError } from './api-error.ts'
import type { FieldValidation } from './decode-object.ts'
import { isJsonObject, objectAt } from './kube-object.ts'
import type { ListOptions } from './list-objects.ts'
import type { IncludeObject } from './table.ts'

/** Length of a field manager's name, bytes (apimachinery FieldManagerMaxLength). */
const maxManager = 128

/** Selectors and pages of a list. Throws {@link ApiError}. */
export function readListOptions(query: URLSearchParams): ListOptions {
  return {
    labelSelector: query.get('labelSelector') ?? '',
    fieldSelector: query.get('fieldSelector') ?? '',
    limit: readNumber(query, 'limit') ?? 0,
    continueToken: query.get('continue') ?? '',
  }
}

/** A number; undefined without one. Says what strconv.ParseInt says, as Kubernetes does. Throws {@link ApiError}. */
export function readNumber(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name)
  if (text === null || text === '') return undefined
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new ApiError(
    'BadRequest',
    `${name}: Invalid value: ${JSON.stringify(text)}: strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`,
  )
}

/** What a deletion insists on, by its body. */
export function readPreconditions(body: unknown): { preconditions?: { uid?: string; resourceVersion?: string } } {
  const { uid, resourceVersion } = objectAt(body, 'preconditions')
  return {
    preconditions: {
      ...(typeof uid === 'string' && { uid }),
      ...(typeof resourceVersion === 'string' && { resourceVersion }),
    },
  }
}

/** `dryRun=All`, in the query or in the body of a deletion. Throws {@link ApiError}. */
export function readDryRun(query: URLSearchParams, body: unknown): boolean {
  const all = [
    ...query.getAll('dryRun'),
    ...(isJsonObject(body) && Array.isArray(body['dryRun']) ? body['dryRun'] : []),
  ]
  const unknown = all.find((value) => value !== 'All')
  if (unknown === undefined) return all.length > 0
  throw new ApiError('Invalid', `dryRun: Unsupported value: ${JSON.stringify(unknown)}: supported values: "All"`)
}

/** `fieldValidation`; Warn without. Throws {@link ApiError}. */
export function readValidation(text: string | null): FieldValidation {
  if (text === null || text === '') return 'Warn'
  if (text === 'Strict' || text === 'Warn' || text === 'Ignore') return text
  throw new ApiError(
    'Invalid',
    `fieldValidation: Unsupported value: ${JSON.stringify(text)}: supported values: "Ignore", "Strict", "Warn"`,
  )
}

/** `includeObject` of a table; Metadata without. */
export function readInclude(query: URLSearchParams): IncludeObject {
  const text = query.get('includeObject')
  return text === 'None' || text === 'Object' ? text : 'Metadata'
}

/** As strconv.ParseBool has it, as far as clients use it. */
export function isTrue(text: string | null): boolean {
  return text === 'true' || text === '1'
}

/** Who is noted as the owner of the fields that a write sets: as told, else the client's program. Throws {@link ApiError}. */
export function readFieldManager(query: URLSearchParams, userAgent = 'unknown'): string {
  const given = query.get('fieldManager')
  if (given === null || given === '') return userAgent.split('/')[0]?.slice(0, maxManager) || 'unknown'
  if (Buffer.byteLength(given) > maxManager) {
    throw new ApiError('Invalid', `fieldManager: Too long: may not be more than ${maxManager} bytes`)
  }
  if (!/^[^\p{C}]*$/u.test(given)) {
    throw new ApiError(
      'Invalid',
      `fieldManager: Invalid value: ${JSON.stringify(given)}: should only contain printable characters`,
    )
  }
  return given
}
