import { closeSync } from 'node:fs'
import { run, RunError, type RunResult } from '../linux/exec.ts'
import { AF_INET, AF_INET6 } from '../netlink/families.ts'
import { getSocketStruct, socket } from '../linux/libc.ts'
import type { Netns } from '../linux/netns.ts'
import type { IpFamily } from '../net/ip-address.ts'
import type { IptablesClient, RestoreOptions, RestoreResult, StartedRestore, Variant } from './client.ts'
import { failure, IptablesError, isWithoutNftables } from './iptables-error.ts'
import type { Ruleset, TableChanges, TableName } from './objects.ts'
import { countTransactions, formatRestore, isEmptyChange, parseSave, restorePieces } from './save-format.ts'

export interface IptablesOptions {
  readonly family: IpFamily
  /** Which of the two kinds of tools; see `detectVariant`. */
  readonly variant: Variant
  /** The network namespace whose rules they are. Default: the calling thread's own. */
  readonly netns?: Netns
  /** Seconds to wait for the xtables lock. @default 5, as kube-proxy and kubelet do */
  readonly lockSeconds?: number
  /** Whether to find out if the kernel has its part, which makes it load the tables. @default true */
  readonly probe?: boolean
  /** The tools, by who looked for them already. Default: `findTools` does. */
  readonly tools?: Promise<Tools>
}

/** How long a tool may take: 100,000 rules take the nft variant minutes. */
const timeoutMs = 1_800_000

/** Finds the tools. Throws IptablesError when they are missing, or cannot work in this family. */
export async function openIptables(options: IptablesOptions): Promise<IptablesClient> {
  const tools = await (options.tools ?? findTools(options))
  const client = new ToolsClient(options, tools)
  if (options.probe ?? true) await client.probe()
  return client
}

/** Names of the tools, and their version. */
export interface Tools {
  readonly command: string
  readonly save: string
  readonly restore: string
  readonly version: string
}

/** `iptables-legacy` and `iptables-nft`, or plain `iptables` where that is the wanted kind. Throws IptablesError. */
export async function findTools({
  family,
  variant,
  netns,
}: Pick<IptablesOptions, 'family' | 'variant' | 'netns'>): Promise<Tools> {
  const base = family === 4 ? 'iptables' : 'ip6tables'
  const names = [`${base}-${variant}`, base]
  const seen: string[] = []
  for (const command of names) {
    const found = await versionOf(command, netns)
    if (!found) {
      seen.push(`${command} is not installed`)
      continue
    }
    if (found.variant === variant)
      return { command, save: `${command}-save`, restore: `${command}-restore`, version: found.version }
    seen.push(`${command} is of the ${found.variant} kind`)
  }
  throw new IptablesError(`no ${variant} ${base}: ${seen.join(', ')}`, { argv: names, exitCode: null, stderr: '' })
}

/** What `iptables --version` says: `iptables v1.8.9 (nf_tables)`; undefined when there is no such program. */
export async function versionOf(
  command: string,
  netns?: Netns,
): Promise<{ readonly version: string; readonly variant: Variant } | undefined> {
  let result: RunResult
  try {
    result = await run([command, '--version'], { timeout: 10_000, ...(netns && { netns }) })
  } catch (error) {
    if (error instanceof RunError && error.code === 'ENOENT') return undefined
    throw error
  }
  const match = /v(\d+(?:\.\d+)*)(?: \((\w+)\))?/.exec(result.stdout)
  // Before 1.8 there was one kind only.
  return match?.[1] === undefined
    ? undefined
    : { version: match[1], variant: match[2] === 'nf_tables' ? 'nft' : 'legacy' }
}

class ToolsClient implements IptablesClient {
  readonly family: IpFamily
  readonly variant: Variant
  readonly version: string
  readonly #tools: Tools
  readonly #netns: Netns | undefined
  readonly #lockSeconds: number

  constructor(options: IptablesOptions, tools: Tools) {
    this.family = options.family
    this.variant = options.variant
    this.version = tools.version
    this.#tools = tools
    this.#netns = options.netns
    this.#lockSeconds = options.lockSeconds ?? 5
  }

  /** Throws when the kernel has no such table. */
  async probe(): Promise<void> {
    // One system call instead of a program, where there is one.
    if (this.mark('nat') === undefined)
      await this.#run([this.#tools.command, ...this.#wait(), '-t', 'nat', '-S', 'PREROUTING'])
  }

  async save(tables: readonly TableName[] = []): Promise<Ruleset> {
    const argvs = tables.length === 0 ? [[this.#tools.save]] : tables.map((table) => [this.#tools.save, '-t', table])
    const texts: string[] = []
    try {
      for (const argv of argvs) texts.push((await this.#run(argv)).stdout)
    } catch (error) {
      if (isWithoutNftables(error)) return new Map()
      throw error
    }
    return parseSave(texts.join(''))
  }

  async restore(
    changes: readonly TableChanges[] | Promise<readonly TableChanges[]>,
    options?: RestoreOptions,
  ): Promise<RestoreResult> {
    if (!(changes instanceof Promise) && changes.every(isEmptyChange)) return { bytes: 0, transactions: 0, ms: 0 }
    using started = this.startRestore()
    return await started.restore(changes, options)
  }

  startRestore(): StartedRestore {
    const { family, variant } = this
    const argv = [this.#tools.restore, '--noflush', '--counters', ...this.#wait()]
    return new WaitingTool({ family, variant, argv, ...(this.#netns && { netns: this.#netns }) })
  }

  mark(table: TableName): string | undefined {
    if (this.variant === 'nft') return undefined
    const read = (): string | undefined => tableInfo(this.family, table)
    return this.#netns ? this.#netns.enter(read) : read()
  }

  /** iptables-nft takes it too, and has no lock. */
  #wait(): readonly string[] {
    return ['-w', String(this.#lockSeconds)]
  }

  async #run(argv: readonly string[]): Promise<RunResult> {
    const result = await this.#try(argv)
    if (result.code !== 0) throw failure(argv, result)
    return result
  }

  async #try(argv: readonly string[]): Promise<RunResult> {
    return await run(argv, { timeout: timeoutMs, ...(this.#netns && { netns: this.#netns }) })
  }
}

interface WaitingToolOptions {
  readonly family: IpFamily
  readonly variant: Variant
  readonly argv: readonly string[]
  readonly netns?: Netns
}

/** An iptables-restore whose input is yet to come. */
class WaitingTool implements StartedRestore {
  readonly #options: WaitingToolOptions
  readonly #changes = Promise.withResolvers<readonly TableChanges[]>()
  readonly #stop = new AbortController()
  readonly #result: Promise<RunResult>
  #used = false
  #ended = false
  #bytes = 0
  #start = 0
  #onHandedOver: (() => void) | undefined

  constructor(options: WaitingToolOptions) {
    this.#options = options
    this.#result = this.#run()
    const end = (): void => void (this.#ended = true)
    // Whoever restores hears of failures.
    this.#result.then(end, end)
    this.#changes.promise.catch(() => {})
  }

  get family(): IpFamily {
    return this.#options.family
  }

  async restore(
    changes: readonly TableChanges[] | Promise<readonly TableChanges[]>,
    { signal, onHandedOver }: RestoreOptions = {},
  ): Promise<RestoreResult> {
    if (this.#ended && !this.#used) {
      // Somebody ended it while it had nothing to do.
      using another = new WaitingTool(this.#options)
      return await another.restore(changes, { ...(signal && { signal }), ...(onHandedOver && { onHandedOver }) })
    }
    if (this.#used) throw new Error('this iptables-restore was given its changes already')
    this.#used = true
    this.#onHandedOver = onHandedOver
    this.#changes.resolve(changes)
    const onAbort = (): void => this.#stop.abort(signal?.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    if (signal?.aborted) onAbort()
    const { argv, variant } = this.#options
    let result: RunResult
    try {
      result = await this.#result
    } catch (error) {
      // When changes could not be made, that is what failed, and not the tool that waits for them.
      await changes
      throw error
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
    const known = await changes
    if (result.code !== 0) throw failure(argv, result, formatRestore(known, variant))
    return {
      bytes: this.#bytes,
      transactions: countTransactions(known, variant),
      ms: performance.now() - this.#start,
    }
  }

  [Symbol.dispose](): void {
    this.#changes.resolve([])
    this.#stop.abort()
  }

  async #run(): Promise<RunResult> {
    const { argv, netns } = this.#options
    return await run(argv, {
      input: this.#pieces(),
      timeout: timeoutMs,
      signal: this.#stop.signal,
      ...(netns && { netns }),
    })
  }

  /** The tool reads the first rules while the last are made. */
  async *#pieces(): AsyncGenerator<Uint8Array> {
    const known = await this.#changes.promise
    this.#start = performance.now()
    for (const text of restorePieces(known, this.#options.variant)) {
      const piece = Buffer.from(text)
      this.#bytes += piece.length
      yield piece
    }
    this.#onHandedOver?.()
  }
}

/* include/uapi/linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h: the same layout in both */
const IPT_SO_GET_INFO = 64
const ipLevels = { 4: { domain: AF_INET, level: 0 }, 6: { domain: AF_INET6, level: 41 } } as const
const SOCK_DGRAM = 2

/**
 * How many entries and bytes a table of the old kind has (struct ipt_getinfo), from one system call. It works on a
 * socket of the calling thread's namespace. Undefined when the kernel does not say.
 */
function tableInfo(family: IpFamily, table: TableName): string | undefined {
  const { domain, level } = ipLevels[family]
  const fd = socket(domain, SOCK_DGRAM, 0)
  try {
    // name[32], valid_hooks, hook_entry[5], underflow[5], num_entries, size
    const info = Buffer.alloc(84)
    info.write(table)
    if (!getSocketStruct(fd, level, IPT_SO_GET_INFO, info)) return undefined
    return `${info.readUInt32LE(76)} entries, ${info.readUInt32LE(80)} bytes`
  } finally {
    closeSync(fd)
  }
}
