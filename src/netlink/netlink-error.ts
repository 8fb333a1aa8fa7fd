import { errnoName } from '../linux/errno.ts'

/** The kernel refused a request. */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError'
  /** What was asked, as a person would say it: `create link fl0`. */
  readonly request: string
  /** Positive, as in errno.h. */
  readonly errno: number
  /** `EEXIST`, `ENOENT`, ... */
  readonly code: string
  /** The kernel's own words (extended ack), when it had any. */
  readonly kernelMessage: string | undefined
  /** Offset of the offending attribute in the request, when the kernel says it. */
  readonly offset: number | undefined

  constructor(request: string, errno: number, details: { message?: string; offset?: number } = {}) {
    super(`${request}: ${errnoName(errno)}${details.message ? ` (kernel: ${details.message})` : ''}`)
    this.request = request
    this.errno = errno
    this.code = errnoName(errno)
    this.kernelMessage = details.message
    this.offset = details.offset
  }
}

/** The kernel dropped messages for this socket, or the socket broke: what was received last may have a gap. */
export class NetlinkSocketError extends Error {
  override readonly name = 'NetlinkSocketError'
}

export function isNetlinkError(error: unknown, code?: string): error is NetlinkError {
  return error instanceof NetlinkError && (code === undefined || error.code === code)
}

export const isAlreadyExists = (error: unknown): error is NetlinkError => isNetlinkError(error, 'EEXIST')

/** Nothing there: ENOENT, or ENODEV/ESRCH as some families put it. */
export const isNotFound = (error: unknown): error is NetlinkError =>
  isNetlinkError(error, 'ENOENT') || isNetlinkError(error, 'ENODEV') || isNetlinkError(error, 'ESRCH')
