import { Command, InvalidArgumentError } from 'commander'
import type { DnsTopView } from '../daemon/dns-control-api.ts'
import { callDaemon, streamFromDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'
import { formatTable } from './table.ts'

/** `fairlead dns top` */
export function dnsTopCommand(): Command {
  return new Command('top')
    .description('who asks most, for what, and for what that does not exist')
    .option('-n, --limit <number>', 'lines of each list, up to 256', parseCount, 10)
    .option('--json', 'print as JSON')
    .addOption(socketOption())
    .addHelpText('after', topHelp)
    .action(async (options: { socket: string; limit: number; json?: boolean }) => {
      const view = await callDaemon<DnsTopView>(options.socket, 'GET', `/dns/top?limit=${options.limit}`)
      console.log(options.json ? JSON.stringify(view) : formatTop(view))
    })
}

/** `fairlead dns log` */
export function dnsLogCommand(): Command {
  const collect = (value: string, before: readonly string[]) => [...before, value]
  return new Command('log')
    .description('follow queries as they are answered, one JSON object a line')
    .option('--client <range>', 'only of these clients: 10.0.0.0/8 or an address; may be repeated', collect, [])
    .option('--name <suffix>', 'only names at or below this one; may be repeated', collect, [])
    .option('--type <type>', 'only questions of this type; may be repeated', collect, [])
    .option('--rcode <code>', 'only answers with this code, like NXDOMAIN; may be repeated', collect, [])
    .option('--one-in <number>', 'of so many that fit, one is shown', parseCount, 1)
    .addOption(socketOption())
    .addHelpText('after', logHelp)
    .action(async (options: LogOptions) => {
      const query = new URLSearchParams({ oneIn: String(options.oneIn) })
      for (const key of ['client', 'name', 'type', 'rcode'] as const)
        for (const value of options[key]) query.append(key, value)
      await streamFromDaemon(options.socket, `/dns/log?${query.toString()}`, process.stdout)
    })
}

interface LogOptions {
  readonly socket: string
  readonly client: readonly string[]
  readonly name: readonly string[]
  readonly type: readonly string[]
  readonly rcode: readonly string[]
  readonly oneIn: number
}

function parseCount(text: string): number {
  const count = Number(text)
  if (Number.isInteger(count) && count >= 1) return count
  throw new InvalidArgumentError('expected a number from 1')
}

function formatTop({ seconds, queries, notExisting, names, missing, clients }: DnsTopView): string {
  const share = (count: number) => [String(count), queries > 0 ? `${((100 * count) / queries).toFixed(1)} %` : '']
  const list = (title: string, rows: readonly (readonly string[])[]) =>
    rows.length > 0 ? ['', formatTable([title, 'QUERIES', 'SHARE'], rows)] : []
  const missed =
    queries > 0 ? `, ${((100 * notExisting) / queries).toFixed(1)} % of them for names that do not exist` : ''
  return [
    `about ${queries} queries in ${Math.round(seconds)} s${missed}`,
    ...list(
      'NAME',
      names.map(({ name, count }) => [name, ...share(count)]),
    ),
    ...list(
      'NOT EXISTING',
      missing.map(({ name, count }) => [name, ...share(count)]),
    ),
    ...list(
      'CLIENT',
      clients.map(({ client, pod, count }) => [pod === undefined ? client : `${client} (${pod})`, ...share(count)]),
    ),
  ].join('\n')
}

const topHelp = `
Of the last five to ten minutes, in bounded memory: counts are estimates (a space-saving sketch of 256 places, fed with one of 16 of the
queries that need nobody's help). Many names that do not exist, all with ".svc.cluster.local" in the middle, are search paths:
"dns.serverSideSearch" answers them in one question, and a dot at the end of a name asks none of them.

  fairlead dns top
  fairlead dns top --limit 3 --json`

const logHelp = `
  fairlead dns log --rcode NXDOMAIN
  fairlead dns log --client 10.88.0.7 --type AAAA
  fairlead dns log --name example.com --one-in 100`
