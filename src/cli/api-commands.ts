import { dump } from 'js-yaml'
import { Command, Option } from 'commander'
import { apiSocketOption, callApi, watchApi } from './api-client.ts'
import { findType, pathOf, readObjects, type NamedObject } from './api-objects.ts'
import { applyObject } from './apply-object.ts'
import { ControlError } from './control-client.ts'
import { formatTable } from './table.ts'
import { UsageError } from './usage-error.ts'

interface CommonOptions {
  readonly apiSocket: string
  readonly namespace: string
}

interface TableAnswer {
  readonly columnDefinitions: readonly { readonly name: string; readonly priority: number }[]
  readonly rows: readonly {
    readonly cells: readonly (string | number)[]
    readonly object: { readonly metadata: { readonly namespace?: string } }
  }[]
}

const asTable = 'application/json;as=Table;v=v1;g=meta.k8s.io'

/** `fairlead apply`: exits 1 when an object is refused; the others are applied. */
export function applyCommand(): Command {
  return withCommon(new Command('apply'))
    .description('create or change objects in the embedded API (server-side apply)')
    .requiredOption('-f, --filename <path...>', 'files or folders of manifests; - is the standard input')
    .option('--force-conflicts', 'take fields over that others set')
    .option('--dry-run', 'change nothing')
    .action(async (options: CommonOptions & { filename: string[]; forceConflicts?: boolean; dryRun?: boolean }) => {
      const { apiSocket: socket, forceConflicts: force = false, dryRun = false } = options
      await forEachObject(readObjects(options.filename, options.namespace), async (object) => {
        await applyObject(object, { socket, force, dryRun })
        console.log(`${object.type.singular}/${object.name} applied${dryRun ? ' (dry run)' : ''}`)
      })
    })
}

/** `fairlead delete`. */
export function deleteCommand(): Command {
  return withCommon(new Command('delete'))
    .description('remove objects from the embedded API')
    .argument('[kind]', 'like service or svc')
    .argument('[name...]')
    .option('-f, --filename <path...>', 'the objects of files or folders; - is the standard input')
    .action(async (kind: string | undefined, names: string[], options: CommonOptions & { filename?: string[] }) => {
      if ((kind === undefined) === (options.filename === undefined) || (kind !== undefined && names.length === 0)) {
        throw new UsageError('name a kind and objects, or give files with -f', { exitCode: 2 })
      }
      const type = kind === undefined ? undefined : findType(kind)
      const objects = type
        ? names.map((name) => ({ type, namespace: options.namespace, name, object: {} }))
        : readObjects(options.filename ?? [], options.namespace)
      await forEachObject(objects, async ({ type, namespace, name }) => {
        await callApi({ socket: options.apiSocket, method: 'DELETE', path: pathOf(type, namespace, name) })
        console.log(`${type.singular}/${name} deleted`)
      })
    })
}

/** `fairlead get`. */
export function getCommand(): Command {
  return withCommon(new Command('get'))
    .description('objects of the embedded API')
    .argument('<kind>', 'like services or svc')
    .argument('[name]')
    .option('-A, --all-namespaces', 'of all namespaces')
    .option('-l, --selector <labels>', 'only objects with these labels, like app=web')
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['wide', 'yaml', 'json']))
    .action(async (kind: string, name: string | undefined, options: GetOptions) => {
      const request = requestOf(kind, name, options)
      if (options.output === 'yaml' || options.output === 'json') {
        const answer = await callApi(request)
        console.log(
          options.output === 'json' ? JSON.stringify(answer, undefined, 2) : dump(answer, { lineWidth: -1 }).trimEnd(),
        )
        return
      }
      const table = await callApi<TableAnswer>({ ...request, accept: asTable })
      if (table.rows.length === 0) console.error('nothing found')
      else console.log(formatRows(table, options))
    })
}

/** `fairlead watch`: prints what there is, and then each change, until it is stopped. */
export function watchCommand(): Command {
  return withCommon(new Command('watch'))
    .description('objects of the embedded API, and each change of them')
    .argument('<kind>', 'like services or svc')
    .argument('[name]')
    .option('-A, --all-namespaces', 'of all namespaces')
    .option('-l, --selector <labels>', 'only objects with these labels, like app=web')
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['wide', 'json']))
    .action(async (kind: string, name: string | undefined, options: GetOptions) => {
      const request = requestOf(kind, name, options)
      const json = options.output === 'json'
      // A watch is of a list; one object is chosen by its name.
      const path = name === undefined ? request.path : request.path.slice(0, request.path.lastIndexOf('/'))
      const query = {
        ...request.query,
        watch: '1',
        ...(name !== undefined && { fieldSelector: `metadata.name=${name}` }),
      }
      const call = { ...request, path, query, ...(!json && { accept: asTable }) }
      for await (const event of watchApi<{ type: string; object: TableAnswer }>(call)) {
        if (json) console.log(JSON.stringify(event))
        else
          console.log(`${event.type.padEnd(8)}  ${formatRows(event.object, options).split('\n').slice(1).join('\n')}`)
      }
    })
}

interface GetOptions extends CommonOptions {
  readonly allNamespaces?: boolean
  readonly selector?: string
  readonly output?: 'wide' | 'yaml' | 'json'
}

function withCommon(command: Command): Command {
  return command.addOption(apiSocketOption()).option('-n, --namespace <name>', 'the namespace', 'default')
}

function requestOf(kind: string, name: string | undefined, options: GetOptions) {
  const type = findType(kind)
  if (options.allNamespaces && name !== undefined)
    throw new UsageError('a name goes with one namespace', { exitCode: 2 })
  return {
    socket: options.apiSocket,
    method: 'GET',
    path: pathOf(type, options.allNamespaces ? '' : options.namespace, name),
    query: { ...(options.selector !== undefined && { labelSelector: options.selector }) },
  } as const
}

function formatRows({ columnDefinitions, rows }: TableAnswer, options: GetOptions): string {
  const shown = columnDefinitions.flatMap(({ name, priority }, index) =>
    priority === 0 || options.output === 'wide' ? [{ name: name.toUpperCase(), index }] : [],
  )
  const head = [...(options.allNamespaces ? ['NAMESPACE'] : []), ...shown.map(({ name }) => name)]
  const lines = rows.map(({ cells, object }) => [
    ...(options.allNamespaces ? [object.metadata.namespace ?? ''] : []),
    ...shown.map(({ index }) => String(cells[index] ?? '')),
  ])
  return formatTable(head, lines)
}

/** One object that is refused keeps no other from its turn. */
async function forEachObject(
  objects: readonly NamedObject[],
  run: (object: NamedObject) => Promise<void>,
): Promise<void> {
  for (const object of objects) {
    try {
      await run(object)
    } catch (error) {
      if (!(error instanceof ControlError) || error.cause !== undefined) throw error
      console.error(`fairlead: ${error.message}`)
      process.exitCode = 1
    }
  }
}
