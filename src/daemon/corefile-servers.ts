import type { Log } from '../base/log.ts'
import { DnsCounts } from '../dns/dns-counts.ts'
import { defaultWorkers } from '../dns/fast-path.ts'
import { QueryFeed } from '../dns/query-feed.ts'
import { QueryLog } from '../dns/query-log.ts'
import { Resolver } from '../dns/resolver.ts'
import { createDnsServer, type DnsServer } from '../dns/server.ts'
import { openBlock } from '../dns-corefile/block-resolver.ts'
import type { Corefile, CorefileBlock } from '../dns-corefile/corefile.ts'
import { CorefileError } from '../dns-corefile/corefile-error.ts'
import { nameText } from '../dns-message/name.ts'
import type { Snapshot } from '../model/snapshot.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import type { ServedBlock } from './coredns-metrics.ts'
import { blockAddresses, type MachineAddresses } from './corefile-addresses.ts'

export interface CorefileServersOptions {
  /** The Corefile, for messages. */
  readonly file: string
  readonly machine: MachineAddresses
  readonly lostFor: () => number | undefined
  readonly version: string
  readonly log: Log
}

/** The DNS servers of a Corefile: one for each set of addresses and port, with the blocks that share them. */
export class CorefileServers implements AsyncDisposable {
  readonly blocks: readonly ServedBlock[]
  readonly #servers: readonly OpenServer[]

  /** Listens nowhere yet. Throws what blocks throw that cannot be had. */
  constructor(corefile: Corefile, options: CorefileServersOptions) {
    using stack = new DisposableStack()
    const groups = new Map<string, { addresses: readonly IpAddress[]; port: number; blocks: CorefileBlock[] }>()
    for (const block of corefile.blocks) {
      const addresses = inBlock(block, options.file, () => blockAddresses(block, options.machine))
      const id = `${block.port} ${addresses.toSorted().join(' ')}`
      const group = groups.get(id) ?? { addresses, port: block.port, blocks: [] }
      groups.set(id, group)
      group.blocks.push(block)
    }
    this.#servers = [...groups.values()].map((group) => stack.use(openServer(group, options)))
    this.blocks = this.#servers.flatMap(({ blocks }) => blocks)
    stack.move()
  }

  /** Whether others like these can listen at the same addresses beside them: no query is lost between the two. */
  get canShare(): boolean {
    return this.#servers.every(({ server }) => server.usesWorkers)
  }

  /** Opens all sockets. Rejects with ListenError. */
  async listen(): Promise<void> {
    for (const { server, feed } of this.#servers) {
      await server.listen()
      feed?.follow(server.samples)
    }
  }

  update(snapshot: Snapshot, synced: boolean): void {
    for (const { server } of this.#servers) server.update(snapshot, synced)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#servers.map(({ server }) => server[Symbol.asyncDispose]()))
    for (const server of this.#servers) server[Symbol.dispose]()
  }
}

interface OpenServer extends Disposable {
  readonly server: DnsServer
  readonly feed: QueryFeed | undefined
  readonly blocks: readonly ServedBlock[]
}

function openServer(
  group: { readonly addresses: readonly IpAddress[]; readonly port: number; readonly blocks: readonly CorefileBlock[] },
  { file, log, lostFor, version }: CorefileServersOptions,
): OpenServer {
  using stack = new DisposableStack()
  const { addresses, port } = group
  // A block of several zones is one resolver under several names.
  // The first one's names are answered by workers.
  const ordered = [...group.blocks].toSorted(
    (a, b) => Number(b.kubernetes !== undefined) - Number(a.kubernetes !== undefined),
  )
  const opened = ordered.map((block) => {
    const parts = inBlock(block, file, () => openBlock(block, { log, addresses, lostFor, searchDomains: [] }))
    return { block, parts: stack.use(parts) }
  })
  const [first, ...others] = opened
  if (!first) throw new TypeError('a group of server blocks is never empty')
  const resolvers = new Map<CorefileBlock, Resolver>()
  for (const { block, parts } of others) resolvers.set(block, new Resolver(parts.options, addresses))
  const taps = group.blocks
    .flatMap(({ logs }) => logs)
    .map(({ zones, classes }) => new QueryLog({ write: (line) => log.info(line, 'DNS query'), names: zones, classes }))
  const feed =
    taps.length > 0
      ? stack.use(
          new QueryFeed({
            taps: taps.map((tap) => ({ every: 1, seen: (query) => tap.seen(query) })),
            onLost: (lost) => log.warn({ lost }, 'More DNS queries were answered than could be logged'),
          }),
        )
      : undefined
  const server = createDnsServer({
    ...first.parts.options,
    addresses,
    port,
    version: `fairlead-${version}`,
    workers: defaultWorkers(),
    joins: true,
    serves: first.block.zones,
    ...(feed && { seen: feed.seen }),
    otherZones: others.flatMap(({ block }) => {
      const resolver = resolvers.get(block)
      return resolver ? block.zones.map((zone) => ({ zone, resolver })) : []
    }),
  })
  const bound = first.block.bind
  const label = `dns://${bound ? (addresses[0] ?? '') : ''}:${port}`
  const served = opened.map(({ block, parts }): ServedBlock => {
    const resolver = resolvers.get(block) ?? server.resolver
    return {
      server: label,
      zone: block.zones.map(nameText).join(' '),
      counts: () => (resolver === server.resolver ? server.counts : countsOf(resolver)),
      counters: () => resolver.counters,
      upstreams: () => resolver.upstreams,
      plugins: block.plugins,
      hosts: parts.hosts && (() => parts.hosts?.size ?? 0),
    }
  })
  const owned = stack.move()
  return {
    server,
    feed,
    blocks: served,
    [Symbol.dispose]: () => owned.dispose(),
  }
}

/** Says of which block an error is that its user can mend. */
function inBlock<T>({ line }: CorefileBlock, file: string, open: () => T): T {
  try {
    return open()
  } catch (error) {
    if (error instanceof ParseError || (error as NodeJS.ErrnoException).errno !== undefined)
      throw new CorefileError({ file, line }, (error as Error).message, { cause: error })
    throw error
  }
}

function countsOf({ counts }: Resolver) {
  return DnsCounts.total([counts])
}
