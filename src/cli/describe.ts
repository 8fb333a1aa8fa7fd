import { Command } from 'commander'
import { groupVersion, type ResourceType } from '../api/resources.ts'
import type { KubeObject } from '../api/kube-object.ts'
import { apiSocketOption, callApi } from './api-client.ts'
import { findType, pathOf } from './api-objects.ts'
import { describeObject } from './describe-object.ts'

interface DescribeOptions {
  readonly apiSocket: string
  readonly namespace: string
  readonly allNamespaces?: boolean
  readonly selector?: string
}

/** `fairlead describe`: what `kubectl describe` says, of the kinds that the embedded API has. */
export function describeCommand(): Command {
  return new Command('describe')
    .description('everything about objects of the embedded API, for people: with endpoints of Services, and events')
    .argument('<kind>', 'like service or svc')
    .argument('[name...]', 'default: all')
    .addOption(apiSocketOption())
    .option('-n, --namespace <name>', 'the namespace', 'default')
    .option('-A, --all-namespaces', 'of all namespaces')
    .option('-l, --selector <labels>', 'only objects with these labels, like app=web')
    .action(async (kind: string, names: string[], options: DescribeOptions) => {
      const type = findType(kind)
      const objects = await readChosen(type, names, options)
      if (objects.length === 0) console.error('nothing found')
      const texts = await Promise.all(
        objects.map(async (object) => {
          const [events, slices] = await Promise.all([
            readEvents(options.apiSocket, object),
            type.kind === 'Service' ? readSlices(options.apiSocket, object) : [],
          ])
          return describeObject(object, { events, slices, now: Date.now() })
        }),
      )
      if (texts.length > 0) console.log(texts.join('\n\n\n'))
    })
}

interface List {
  readonly items: readonly KubeObject[]
}

async function readChosen(
  type: ResourceType,
  names: readonly string[],
  { apiSocket: socket, namespace, allNamespaces, selector }: DescribeOptions,
): Promise<readonly KubeObject[]> {
  if (names.length > 0) {
    const paths = names.map((name) => pathOf(type, namespace, name))
    return Promise.all(paths.map((path) => callApi<KubeObject>({ socket, method: 'GET', path })))
  }
  const path = pathOf(type, allNamespaces ? '' : namespace)
  const query = selector === undefined ? {} : { labelSelector: selector }
  const { items } = await callApi<List>({ socket, method: 'GET', path, query })
  return items.map((item) => ({ ...item, kind: type.kind, apiVersion: groupVersion(type) }))
}

async function readEvents(socket: string, { kind, metadata }: KubeObject): Promise<readonly KubeObject[]> {
  const chosen = { kind, name: metadata.name, ...(metadata.uid !== undefined && { uid: metadata.uid }) }
  const fieldSelector = Object.entries(chosen)
    .map(([field, value]) => `involvedObject.${field}=${value}`)
    .join(',')
  const path = pathOf(findType('events'), metadata.namespace ?? '')
  return (await callApi<List>({ socket, method: 'GET', path, query: { fieldSelector } })).items
}

async function readSlices(socket: string, { metadata }: KubeObject): Promise<readonly KubeObject[]> {
  const path = pathOf(findType('endpointslices'), metadata.namespace ?? '')
  const query = { labelSelector: `kubernetes.io/service-name=${metadata.name}` }
  return (await callApi<List>({ socket, method: 'GET', path, query })).items
}
