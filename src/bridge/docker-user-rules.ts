import { readFileSync } from 'node:fs'
import { BoundedRunner } from '../base/bounded-runner.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { run, RunError } from '../linux/exec.ts'
import { cidrFamily, formatCidr, type Cidr } from '../net/cidr.ts'
import type { NftClient } from '../nftables/client.ts'
import { diffDockerUser, dockerBridges, dockerUserChain, dockerUserRules, type ServicePackets } from './docker-user.ts'

/** How often the list of our bridges is compared with the one that the rules were made for, ms. */
const lookInterval = 1000
/** How often x_tables of iptables-legacy is read, which tells nobody of changes, ms. */
const legacyInterval = 5000
/** How long iptables may wait for its lock and work. */
const timeout = 10_000

/** iptables and ip6tables, and where each keeps its tables. */
const backends = [
  { program: 'iptables', family: 'ip', legacyTables: '/proc/net/ip_tables_names' },
  { program: 'ip6tables', family: 'ip6', legacyTables: '/proc/net/ip6_tables_names' },
] as const

type Backend = (typeof backends)[number]
/** Names of the tables that a file like `/proc/net/ip_tables_names` lists. */
type LegacyTables = (path: string) => readonly string[]

/** An iptables command that failed. */
export class IptablesError extends Error {
  override readonly name = 'IptablesError'
}

/**
 * Keeps rules for our bridges in Docker's chain DOCKER-USER while Docker is there: puts them in when it starts, after it
 * restarts, and when it makes a network. Without Docker it runs no program and changes nothing.
 */
export class DockerUserRules implements AsyncDisposable {
  readonly #bridges: () => readonly string[]
  readonly #services: readonly Cidr[] | undefined
  readonly #nft: NftClient | undefined
  readonly #log: Log
  readonly #runner: BoundedRunner
  readonly #clock: Clock
  readonly #legacyTables: LegacyTables
  /** Our bridges when they were last looked at. */
  #known: readonly string[] = []
  #lastLook = 0

  /** `bridges` gives the names of our bridges at the time (asked again from time to time). */
  constructor(options: {
    readonly bridges: () => readonly string[]
    /** Ranges of cluster IPs, where Services may lead to Docker's containers. Absent: they do not. */
    readonly services?: readonly Cidr[] | undefined
    /** Undefined where the kernel has no nf_tables: Docker's rules are in the legacy tables then. */
    readonly nft: NftClient | undefined
    readonly log: Log
    readonly clock: Clock
    /** @default {@link readLegacyTables} */
    readonly legacyTables?: LegacyTables
  }) {
    const { bridges, services, nft, log, clock, legacyTables = readLegacyTables } = options
    this.#bridges = bridges
    this.#services = services
    this.#nft = nft
    this.#log = log
    this.#clock = clock
    this.#legacyTables = legacyTables
    this.#runner = new BoundedRunner({
      run: async (reason) => {
        if (reason === 'request' || this.#mayHaveChanged()) await this.sync()
      },
      clock,
      maxIntervalMs: lookInterval,
      onError: (error, { failures, retryInMs }) =>
        log.error({ err: error, failures, retryInMs }, `Cannot write rules into ${dockerUserChain}, trying again`),
    })
  }

  /** Begins: now, and after every change of the tables that Docker's rules are in. */
  follow(): void {
    this.#nft?.watch({
      onChange: ({ family, table }) => {
        if (table === 'filter' && (family === 'ip' || family === 'ip6')) this.request()
      },
      onLost: () => this.request(),
    })
    this.request()
  }

  /** Asks for a look soon. */
  request(): void {
    this.#runner.request()
  }

  /** Makes the chain what it should be, once. Throws {@link IptablesError}, RunError, NftablesError. */
  async sync(): Promise<void> {
    this.#known = this.#bridges()
    this.#lastLook = this.#clock.monotonic()
    for (const backend of await backendsWithDocker(this.#nft, this.#legacyTables)) {
      const { program } = backend
      const listing = await listRules(backend)
      const wanted = dockerUserRules(this.#known, dockerBridges(listing), this.#packets(backend))
      const commands = diffDockerUser(listing, wanted)
      for (const words of commands) await iptables(backend, words)
      if (commands.length > 0) {
        const changes = commands.map((words) => words.join(' '))
        this.#log.info({ program, changes }, `Docker's chain ${dockerUserChain} lets packets of our bridges through`)
      }
    }
  }

  #packets({ family }: Backend): ServicePackets {
    const ranges = (this.#services ?? []).filter((range) => cidrFamily(range) === (family === 'ip' ? 4 : 6))
    return { ranges: ranges.map(formatCidr), nodePorts: this.#services !== undefined }
  }

  /** Whether something may be different that nobody told us of. */
  #mayHaveChanged(): boolean {
    if (this.#bridges().join(' ') !== this.#known.join(' ')) return true
    if (this.#clock.monotonic() - this.#lastLook < legacyInterval) return false
    return backends.some(({ legacyTables }) => this.#legacyTables(legacyTables).includes('filter'))
  }

  /** Stops looking. The rules stay, for the pods go on. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#runner.stop()
    await this.#runner.settled()
  }
}

/** Removes our rules from Docker's chain, wherever it is. Returns what was removed, in words. Throws as {@link DockerUserRules.sync}. */
export async function removeDockerUserRules(
  nft: NftClient | undefined,
  legacyTables: LegacyTables = readLegacyTables,
): Promise<string[]> {
  const removed: string[] = []
  for (const backend of await backendsWithDocker(nft, legacyTables)) {
    const commands = diffDockerUser(await listRules(backend), [])
    for (const words of commands) await iptables(backend, words)
    if (commands.length > 0) removed.push(`${commands.length} rules in chain ${dockerUserChain} of ${backend.program}`)
  }
  return removed
}

/** Those whose table filter may have Docker's chain. Nothing is run to find out: iptables would make tables where none are. */
async function backendsWithDocker(nft: NftClient | undefined, legacyTablesOf: LegacyTables): Promise<Backend[]> {
  const chains = (await nft?.listChains()) ?? []
  return backends.filter(
    ({ family, legacyTables }) =>
      chains.some((chain) => chain.family === family && chain.table === 'filter' && chain.name === dockerUserChain) ||
      legacyTablesOf(legacyTables).includes('filter'),
  )
}

/** Tables of x_tables that are not kept in nf_tables, by `/proc/net/ip_tables_names` or `ip6_tables_names`. */
export function readLegacyTables(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').filter(Boolean)
  } catch (error) {
    // Not even loaded, or only root may know: then it is not root who asks.
    if (['ENOENT', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
    throw error
  }
}

/** What `iptables -S` prints. Nothing where it is of the nft kind and the kernel has no nf_tables: Docker cannot use it either. */
async function listRules(backend: Backend): Promise<string> {
  try {
    return await iptables(backend, ['-S'])
  } catch (error) {
    if (error instanceof IptablesError && /generation id: Invalid argument/.test(error.message)) return ''
    throw error
  }
}

/** Runs iptables or ip6tables, the backend that is this machine's default: Docker runs the same. Gives what it printed. */
async function iptables({ program }: Backend, words: readonly string[]): Promise<string> {
  const argv = [program, '-w', '5', ...words]
  try {
    const { code, stdout, stderr } = await run(argv, { timeout })
    if (code !== 0) throw new IptablesError(`${argv.join(' ')}: ${stderr.trim() || `exit code ${code}`}`)
    return stdout
  } catch (error) {
    if (!(error instanceof RunError) || error.code !== 'ENOENT') throw error
    throw new IptablesError(`there is Docker's chain ${dockerUserChain}, but no program ${program} to write it with`, {
      cause: error,
    })
  }
}
