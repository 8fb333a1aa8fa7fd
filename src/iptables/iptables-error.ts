/**
 * iptables, iptables-save or iptables-restore failed. A restore that failed changed nothing of the table that it names, but may have left new
 * chains that nothing leads to (`TableChanges.blocks`).
 */
export class IptablesError extends Error {
  override readonly name = 'IptablesError'
  readonly argv: readonly string[]
  /** Null when a signal ended the tool. 4: the lock was held by others for too long, or a resource is missing. */
  readonly exitCode: number | null
  readonly stderr: string
  /** The line of the input that was refused, if the tool named one. */
  readonly line: string | undefined

  constructor(
    message: string,
    details: {
      readonly argv: readonly string[]
      readonly exitCode: number | null
      readonly stderr: string
      readonly line?: string | undefined
    },
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.argv = details.argv
    this.exitCode = details.exitCode
    this.stderr = details.stderr
    this.line = details.line
  }
}

/** Another program held the xtables lock (/run/xtables.lock) for longer than we wait. */
export function isLocked(error: unknown): error is IptablesError {
  return error instanceof IptablesError && error.exitCode === 4 && /xtables lock/.test(error.stderr)
}

/** Not root, or without CAP_NET_ADMIN. */
export function isPermissionDenied(error: unknown): error is IptablesError {
  return error instanceof IptablesError && /Permission denied|must be root|not permitted/i.test(error.stderr)
}

/** The kernel has no nf_tables, so the tools of the nft kind can do nothing, and nobody can have used them. */
export function isWithoutNftables(error: unknown): error is IptablesError {
  return error instanceof IptablesError && /generation id: Invalid argument/.test(error.stderr)
}

/** The error for a tool that ended with something other than 0. Names the refused line when `input` is given. */
export function failure(
  argv: readonly string[],
  result: { readonly code: number | null; readonly signal: string | null; readonly stderr: string },
  input?: string,
): IptablesError {
  const stderr = result.stderr.trim()
  const number = lineNumber(stderr)
  const line = number === undefined || input === undefined ? undefined : input.split('\n')[number - 1]
  const how = result.code === null ? `ended by ${result.signal}` : `exit code ${result.code}`
  // The last line is about how to get help; the first says what is wrong, but for warnings about the other kind's tables.
  const reason = stderr.split('\n').find((text) => !text.startsWith('# Warning')) ?? ''
  const where = line === undefined ? '' : ` at "${line}"`
  return new IptablesError(`${argv[0]}: ${how}${where}${reason === '' ? '' : `: ${reason}`}`, {
    argv,
    exitCode: result.code,
    stderr,
    line,
  })
}

/** `iptables-restore: line 7 failed` (legacy), `Error occurred at line: 7`, `iptables-nft-restore v1.8.9 ...: line 7: ...`. */
function lineNumber(stderr: string): number | undefined {
  const match = /\bline:? (\d+)/i.exec(stderr)
  return match?.[1] === undefined ? undefined : Number(match[1])
}
