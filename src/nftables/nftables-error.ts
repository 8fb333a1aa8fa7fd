import { errnoName } from '../linux/errno.ts'
import { isNetlinkError, NetlinkSocketError } from '../netlink/netlink-error.ts'
import { formatElement, withoutData } from './format.ts'
import type { RegisterBytes } from './objects.ts'
import type { Change, Transaction } from './transaction.ts'

/** One change that the kernel refused. */
export interface RefusedChange {
  /** Undefined when the transaction as a whole was refused. */
  readonly change: Change | undefined
  /** The element that it was about, if the kernel said so. */
  readonly key?: RegisterBytes
  /** Positive, as in errno.h. */
  readonly errno: number
  /** `EBUSY`, `ENOENT`, ... */
  readonly code: string
  /** The kernel's own words (extended ack). */
  readonly kernelMessage?: string
}

/** How many refused changes a message names. */
const maxNamed = 10

/** A transaction that was not applied. The message names what was refused: `add chain inet lb web: EBUSY`. */
export class NftablesError extends Error {
  override readonly name = 'NftablesError'
  /** The errno of the first refused change: `EBUSY`. `ESTALE` when the table was changed by somebody else meanwhile. */
  readonly code: string
  /** In the kernel's order. Empty when nothing was sent. */
  readonly refused: readonly RefusedChange[]

  constructor(
    message: string,
    options: { readonly code: string; readonly refused?: readonly RefusedChange[]; readonly cause?: unknown },
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = options.code
    this.refused = options.refused ?? []
  }
}

/** The error for a transaction of which `refused` (at least one) was refused. */
export function refusedError(
  transaction: Pick<Transaction, 'family' | 'table'>,
  refused: readonly RefusedChange[],
): NftablesError {
  const lines = refused.slice(0, maxNamed).map((one) => {
    const what = one.change ? nameChange(transaction, one.change, one.key) : nameTable(transaction)
    return `${what}: ${one.code}${one.kernelMessage ? ` (kernel: ${one.kernelMessage})` : ''}`
  })
  if (refused.length > maxNamed) lines.push(`and ${refused.length - maxNamed} more`)
  return new NftablesError(lines.join('; '), { code: refused[0]?.code ?? 'EINVAL', refused })
}

/** A refused change with its errno's name. */
export function refusal(
  change: Change | undefined,
  errno: number,
  details: { readonly key?: RegisterBytes; readonly kernelMessage?: string } = {},
): RefusedChange {
  return { change, errno, code: errnoName(errno), ...details }
}

/** The error for a table that was changed by somebody else since it was read. */
export function tableChangedError(table: Pick<Transaction, 'family' | 'table'>, by: string | undefined): NftablesError {
  const who = by === undefined ? 'by somebody else' : `by ${by}`
  return new NftablesError(`${nameTable(table)} was changed ${who} since it was read`, { code: 'ESTALE' })
}

function nameTable({ family, table }: Pick<Transaction, 'family' | 'table'>): string {
  return `table ${family} ${table}`
}

/** A change in words: `add chain inet lb web`. */
export function nameChange(
  transaction: Pick<Transaction, 'family' | 'table'>,
  change: Change,
  key?: RegisterBytes,
): string {
  const place = `${transaction.family} ${transaction.table}`
  switch (change.op) {
    case 'add-table':
    case 'delete-table':
      return `${change.op.replace('-', ' ')} ${place}`
    case 'add-chain':
      return `add chain ${place} ${change.chain.name}`
    case 'delete-chain':
    case 'flush-chain':
      return `${change.op.replace('-', ' ')} ${place} ${change.chain}`
    case 'add-rule':
      return `add rule ${place} ${change.chain}`
    case 'add-set':
      return `add ${change.set.data === undefined ? 'set' : 'map'} ${place} ${change.set.name}`
    case 'delete-set':
      return `delete set ${place} ${change.set}`
    case 'add-elements':
    case 'delete-elements': {
      const verb = change.op === 'add-elements' ? 'add' : 'delete'
      if (key === undefined) return `${verb} ${change.elements.size} elements ${place} ${change.set.name}`
      return `${verb} element ${place} ${change.set.name} { ${formatElement(withoutData(change.set), key, change.elements.get(key) ?? '')} }`
    }
    default:
      return change satisfies never
  }
}

export function isNftablesError(error: unknown, code?: string): error is NftablesError {
  return error instanceof NftablesError && (code === undefined || error.code === code)
}

/** Somebody else changed the table since it was read: read it again and compute the changes anew. */
export const isTableChanged = (error: unknown): error is NftablesError => isNftablesError(error, 'ESTALE')

/** Not root: nf_tables wants CAP_NET_ADMIN in the user namespace that owns the network namespace. */
export const isPermissionDenied = (error: unknown): error is NftablesError =>
  isNftablesError(error, 'EPERM') || isNftablesError(error, 'EACCES')

/** The kernel has no nf_tables, or not what was asked of it. */
export const isUnsupported = (error: unknown): error is NftablesError =>
  isNftablesError(error, 'EOPNOTSUPP') ||
  isNftablesError(error, 'EPROTONOSUPPORT') ||
  isNftablesError(error, 'EAFNOSUPPORT')

/** Errors of the wire as {@link NftablesError}. Mistakes of the caller (StatementError, ElementError) stay as they are. */
export function asNftablesError(name: string, error: unknown): unknown {
  if (error instanceof NftablesError || !(error instanceof Error)) return error
  const code = (error as { code?: unknown }).code
  if (code === 'EPERM' || code === 'EACCES') {
    return new NftablesError(`${name}: not permitted: nf_tables needs root or CAP_NET_ADMIN`, { code, cause: error })
  }
  // nfnetlink answers EINVAL to a subsystem that it does not have (nfnetlink_rcv_msg).
  const missing = code === 'EOPNOTSUPP' || code === 'EPROTONOSUPPORT' || code === 'EAFNOSUPPORT'
  if (missing || (code === 'EINVAL' && isNetlinkError(error))) {
    return new NftablesError(`${name}: this kernel has no nf_tables (CONFIG_NF_TABLES)`, {
      code: 'EOPNOTSUPP',
      cause: error,
    })
  }
  if (typeof code === 'string') return new NftablesError(`${name}: ${error.message}`, { code, cause: error })
  if (error instanceof NetlinkSocketError) return new NftablesError(error.message, { code: 'ENOBUFS', cause: error })
  return error
}
