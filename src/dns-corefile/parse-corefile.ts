import { type Name, rootName } from '../dns-message/name.ts'
import { isIP } from 'node:net'
import { ParseError } from '../net/parse-error.ts'
import type { CorefileBlock, Corefile, HostPort } from './corefile.ts'
import { CorefileError } from './corefile-error.ts'
import { DirectiveReader, parseZoneName } from './directive-reader.ts'
import { type RawBlock, type ReadOptions, readServerBlocks } from './read-directives.ts'
import { readCache, readForward } from './read-forward.ts'
import { type PluginContext, readExternal, readHosts, readKubernetes } from './read-kubernetes.ts'
import { readAcl, readLog, readRewrite } from './read-rewrite.ts'

export interface ParseCorefileOptions extends ReadOptions {
  /** A path as the file means it. */
  readonly path: (text: string) => string
}

type Draft = { -readonly [Key in keyof CorefileBlock]: CorefileBlock[Key] }
type Read = (draft: Draft, reader: DirectiveReader, context: PluginContext) => void

/** What each plugin does to its block. What is not here is refused. */
const plugins: Readonly<Record<string, Read>> = {
  errors: (draft) => void (draft.errors = true),
  health(draft, reader) {
    let lameduckMs = 0
    for (const line of reader.lines()) {
      if (line.directive.name !== 'lameduck') line.unknown(['lameduck'])
      lameduckMs = line.duration(line.expect(1, 1, 'lameduck DURATION').args[0] ?? '')
    }
    draft.health = { listen: hostPort(reader.expect(0, 1, 'health [ADDRESS]'), 8080), lameduckMs }
  },
  ready(draft, reader) {
    for (const line of reader.lines()) line.unknown([])
    draft.ready = hostPort(reader.expect(0, 1, 'ready [ADDRESS]'), 8181)
  },
  prometheus: (draft, reader) => void (draft.prometheus = hostPort(reader.expect(0, 1, 'prometheus [ADDRESS]'), 9153)),
  kubernetes(draft, reader, context) {
    if (draft.kubernetes) reader.fail('stands twice in a server block')
    draft.kubernetes = readKubernetes(reader, context)
  },
  k8s_external: (draft, reader, context) => void (draft.external = readExternal(reader, context)),
  hosts(draft, reader, context) {
    if (draft.hosts) reader.fail('stands twice in a server block')
    draft.hosts = readHosts(reader, context)
  },
  forward: (draft, reader, context) => void (draft.forwards = [...draft.forwards, readForward(reader, context)]),
  cache(draft, reader, context) {
    if (draft.cache) reader.fail('stands twice in a server block')
    draft.cache = readCache(reader, context)
  },
  rewrite: (draft, reader) => void (draft.rewrites = [...draft.rewrites, readRewrite(reader)]),
  acl: (draft, reader, context) => void (draft.access = [...draft.access, readAcl(reader, context)]),
  any: (draft) => void (draft.any = true),
  log: (draft, reader, context) => void (draft.logs = [...draft.logs, readLog(reader, context)]),
  autopath(draft, reader) {
    if (reader.args.at(-1) !== '@kubernetes') reader.fail(`"${reader.args.join(' ')}" (expected autopath @kubernetes)`)
    draft.searchPaths = true
  },
  bind(draft, reader) {
    const except = [...reader.lines()].flatMap((line) => {
      if (line.directive.name !== 'except') line.unknown(['except'])
      return line.args
    })
    draft.bind = [...(draft.bind ?? []), { on: reader.expect(1, 1000, 'bind ADDRESS|INTERFACE...').args, except }]
  },
  reload(draft, reader) {
    const [interval, jitter] = reader.expect(0, 2, 'reload [INTERVAL] [JITTER]').args
    if (interval === 'off' || interval === '0') return void (draft.reload = undefined)
    const intervalMs = interval === undefined ? 30_000 : reader.duration(interval)
    if (intervalMs < 2000) reader.fail(`"${interval}" is shorter than 2s`)
    draft.reload = { intervalMs, jitterMs: jitter === undefined ? intervalMs / 2 : reader.duration(jitter) }
  },
  loop: (_draft, reader, { note }) => note(reader, 'loops are found and broken at any time, and never end the server'),
  loadbalance(_draft, reader, { note }) {
    const [policy] = reader.args
    if (policy !== undefined && policy !== 'round_robin') reader.fail(`"${policy}" (expected round_robin)`)
    note(reader, 'the records of each set are rotated from answer to answer, always')
  },
  bufsize: (_draft, reader, { note }) => note(reader, 'UDP answers are never larger than 1232 octets'),
  minimal: (_draft, reader, { note }) => note(reader, 'answers have no more than clients need'),
  metadata: (_draft, reader, { note }) => note(reader, 'who asks is known without it'),
  debug: (_draft, reader, { note }) => note(reader, 'use --log-level debug'),
  cancel: (_draft, reader, { note }) => note(reader, 'a question is given up after 5 s'),
  multisocket: (_draft, reader, { note }) => note(reader, 'the number of sockets is not for the Corefile to say'),
}

/** Reads a Corefile. Throws {@link CorefileError} with file and line of what is not understood. */
export function parseCorefile(text: string, options: ParseCorefileOptions): Corefile {
  const notes: string[] = []
  const blocks = readServerBlocks(text, options).flatMap((raw) => readBlock(raw, options, notes))
  if (blocks.length === 0) throw new CorefileError({ file: options.file, line: 1 }, 'there is no server block')
  checkOverlap(blocks, options.file)
  return { blocks, notes }
}

/** One block per port that its keys name. */
function readBlock(raw: RawBlock, { path }: ParseCorefileOptions, notes: string[]): CorefileBlock[] {
  const byPort = new Map<number, Name[]>()
  for (const key of raw.keys) {
    const { zone, port } = parseKey(key, raw)
    byPort.set(port, [...(byPort.get(port) ?? []), zone])
  }
  if (raw.keys.length === 0) throw new CorefileError(raw, 'a server block has no zone (expected like .:53)')
  return [...byPort].map(([port, zones], index) => {
    const draft: Draft = { ...emptyBlock, zones, port, line: raw.line, plugins: raw.plugins.map(({ name }) => name) }
    const context: PluginContext = {
      zones,
      path,
      note(reader, text) {
        const { file, line, name } = reader.directive
        if (index === 0) notes.push(`${file}:${line}: ${name} is not as in CoreDNS: ${text}`)
      },
    }
    for (const directive of raw.plugins) {
      const read = Object.hasOwn(plugins, directive.name) ? plugins[directive.name] : undefined
      if (!read)
        throw new CorefileError(
          directive,
          `plugin "${directive.name}" is not supported (supported are ${Object.keys(plugins).join(', ')})`,
        )
      read(draft, new DirectiveReader(directive), context)
    }
    if (draft.searchPaths && !draft.kubernetes)
      throw new CorefileError(raw, 'autopath @kubernetes needs the plugin kubernetes in its server block')
    if (draft.external && !draft.kubernetes)
      throw new CorefileError(raw, 'k8s_external needs the plugin kubernetes in its server block')
    return draft
  })
}

const emptyBlock: Omit<CorefileBlock, 'zones' | 'port' | 'line' | 'plugins'> = {
  bind: undefined,
  health: undefined,
  ready: undefined,
  prometheus: undefined,
  errors: false,
  logs: [],
  reload: undefined,
  kubernetes: undefined,
  external: undefined,
  hosts: undefined,
  forwards: [],
  cache: undefined,
  rewrites: [],
  access: [],
  any: false,
  searchPaths: false,
}

/** `.`, `.:53`, `dns://example.org:1053`, `10.0.0.0/24`. */
function parseKey(key: string, raw: RawBlock): { readonly zone: Name; readonly port: number } {
  const [, scheme = 'dns', rest = key] = /^(\w+):\/\/(.*)$/.exec(key) ?? []
  if (scheme !== 'dns')
    throw new CorefileError(raw, `"${key}": servers of ${scheme} are not supported (expected like .:53)`)
  const [, zoneText = rest, portText] = /^(.*?):(\d+)$/.exec(rest) ?? []
  const port = portText === undefined ? 53 : Number(portText)
  if (port < 1 || port > 65_535) throw new CorefileError(raw, `"${key}": port ${portText} is not from 1 to 65535`)
  try {
    return { zone: zoneText === '' ? rootName : parseZoneName(zoneText), port }
  } catch (error) {
    if (!(error instanceof ParseError)) throw error
    throw new CorefileError(raw, `"${key}" is no zone: ${error.message}`, { cause: error })
  }
}

/** `:9153`, `0.0.0.0:9153`, `localhost:9153`, `9153` */
function hostPort(reader: DirectiveReader, defaultPort: number): HostPort {
  const [text] = reader.args
  if (text === undefined) return { host: undefined, port: defaultPort }
  const [, host = '', port = ''] = /^(.*?):?(\d+)$/.exec(text) ?? []
  const plain = host.replace(/^\[(.*)\]$/, '$1')
  if (port === '' || (plain !== '' && plain !== 'localhost' && isIP(plain) === 0))
    reader.fail(`"${text}" is not an address to listen on (expected like :${defaultPort} or 127.0.0.1:${defaultPort})`)
  return { host: plain === '' ? undefined : plain, port: reader.integer(port, { min: 1, max: 65_535 }) }
}

/** Two blocks for the same names on the same port: nobody could say which counts. */
function checkOverlap(blocks: readonly CorefileBlock[], file: string): void {
  const seen = new Map<string, number>()
  for (const { zones, port, bind, line } of blocks) {
    for (const { key } of zones) {
      const where = `${port} ${key} ${JSON.stringify(bind ?? [])}`
      const before = seen.get(where)
      if (before !== undefined)
        throw new CorefileError({ file, line }, `the server block of line ${before} has the same zone and port`)
      seen.set(where, line)
    }
  }
}
