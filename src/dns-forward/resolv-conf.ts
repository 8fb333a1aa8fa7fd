import { readFileSync, type StatWatcher, unwatchFile, watchFile } from 'node:fs'
import type { Log } from '../base/log.ts'
import { type IpAddress, parseIp } from '../net/ip-address.ts'

/** The name servers of a resolv.conf(5), in order. Those that are no plain address (IPv6 with a scope) are in `skipped`. */
export function parseResolvConf(text: string): { servers: IpAddress[]; skipped: string[] } {
  const servers: IpAddress[] = []
  const skipped: string[] = []
  for (const line of text.split('\n')) {
    const address = /^nameserver\s+(\S+)/.exec(line)?.[1]
    if (address === undefined) continue
    try {
      servers.push(parseIp(address))
    } catch {
      skipped.push(address)
    }
  }
  return { servers: [...new Set(servers)], skipped }
}

/** Addresses of systemd-resolved's stub listener (systemd-resolved.service(8)). */
const stubAddresses: ReadonlySet<string> = new Set(['127.0.0.53', '127.0.0.54'])

export interface ResolvConfOptions {
  readonly path: string
  /**
   * The file with systemd-resolved's own upstreams; default `/run/systemd/resolve/resolv.conf`. Used instead of the stub:
   * a pod cannot reach 127.0.0.53, and resolved may itself be told to ask us, which would be a loop.
   */
  readonly resolvedPath?: string
  /** Addresses never to be asked: our own. */
  readonly exclude: (address: IpAddress) => boolean
  readonly log: Log
  /** How often the files are looked at, in milliseconds; default 1000. */
  readonly interval?: number
}

/** The node's resolvers, read again when their file changes. */
export class ResolvConf implements Disposable {
  readonly #options: ResolvConfOptions
  readonly #paths: readonly string[]
  readonly #listener = () => this.#read()
  /** Undefined until a file was read. */
  #servers: readonly IpAddress[] | undefined

  constructor(options: ResolvConfOptions) {
    this.#options = options
    this.#paths = [options.path, options.resolvedPath ?? '/run/systemd/resolve/resolv.conf']
    this.#read()
    // Watched by stat: both files are replaced by rename, and reached over symbolic links, which inotify does not follow.
    for (const path of this.#paths) {
      const watcher: StatWatcher = watchFile(path, { interval: options.interval ?? 1000 }, this.#listener)
      watcher.unref()
    }
  }

  /** In the order of the file. */
  get servers(): readonly IpAddress[] {
    return this.#servers ?? []
  }

  [Symbol.dispose](): void {
    for (const path of this.#paths) unwatchFile(path, this.#listener)
  }

  #read(): void {
    const { log, exclude } = this.#options
    const [path = '', resolvedPath = ''] = this.#paths
    const main = this.#load(path)
    if (!main) return
    const behindStub = main.servers.some((ip) => stubAddresses.has(ip))
      ? this.#load(resolvedPath, { optional: true })
      : undefined
    // Without that file the stub is still better than nothing.
    const named = behindStub && behindStub.servers.length > 0 ? behindStub.servers : main.servers
    const servers = named.filter((ip) => !exclude(ip))
    if (this.#servers && sameList(this.#servers, servers)) return
    this.#servers = servers
    const fields = { path, servers, skipped: main.skipped, ownAddresses: named.length - servers.length }
    if (servers.length > 0) log.info(fields, "Names outside of the cluster are asked from the node's resolvers")
    else log.warn(fields, 'No resolver to ask for names outside of the cluster: such names are SERVFAIL')
  }

  #load(path: string, { optional = false } = {}): ReturnType<typeof parseResolvConf> | undefined {
    try {
      return parseResolvConf(readFileSync(path, 'utf8'))
    } catch (error) {
      // While a tool replaces the file it may be missing for a moment: the last good list stays.
      if (!optional)
        this.#options.log.warn(
          { path, error },
          "Cannot read the list of the node's resolvers; the last one stays in use",
        )
      return undefined
    }
  }
}

function sameList(a: readonly IpAddress[], b: readonly IpAddress[]): boolean {
  return a.length === b.length && a.every((ip, i) => ip === b[i])
}
