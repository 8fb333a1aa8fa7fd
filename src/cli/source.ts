import { Command } from 'commander'
import type { SourceView, StatusView } from '../daemon/control-api.ts'
import { callDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'
import { formatTable } from './table.ts'

/** `fairlead source`: where the daemon's objects come from. */
export function sourceCommand(): Command {
  const list = new Command('ls')
    .description('each source, whether it is complete, how old what it knows is, and what it has')
    .addOption(socketOption())
    .option('--json', 'print as JSON')
    .action(async (options: { socket: string; json?: boolean }) => {
      const { sources } = await callDaemon<StatusView>(options.socket, 'GET', '/status')
      console.log(options.json ? JSON.stringify(sources.list) : formatSources(sources.list))
    })
  return new Command('source').description('where the objects come from').addCommand(list)
}

/** A line per source, and below it one per resource of an API server. */
export function formatSources(sources: readonly SourceView[]): string {
  const rows = sources.flatMap(({ name, synced, objects, problems, resources }) => [
    [name, synced ? 'yes' : 'no', resources.length > 0 ? '' : '-', formatObjects(objects), String(problems)],
    ...resources.map(({ resource, synced, connected, ageSeconds, objects, error }) => [
      `  ${resource}`,
      synced ? (connected || error === undefined ? 'yes' : 'lost') : 'no',
      ageSeconds === undefined ? '-' : `${ageSeconds.toFixed(0)} s`,
      String(objects),
      error ?? '',
    ]),
  ])
  return formatTable(['SOURCE', 'SYNCED', 'AGE', 'OBJECTS', 'PROBLEMS'], rows)
}

function formatObjects(objects: Readonly<Record<string, number>>): string {
  const some = Object.entries(objects).filter(([, count]) => count > 0)
  return some.length === 0 ? '0' : some.map(([kind, count]) => `${count} ${kind}`).join(', ')
}
