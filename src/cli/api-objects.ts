import { readFileSync, statSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { loadAll } from 'js-yaml'
import { groupVersion, resourceTypes, type ResourceType } from '../api/resources.ts'
import { isJsonObject, textAt, type JsonObject } from '../api/kube-object.ts'
import { UsageError } from './usage-error.ts'

/** One object that a file names. */
export interface NamedObject {
  readonly type: ResourceType
  readonly namespace: string
  readonly name: string
  readonly object: JsonObject
}

/** The kind that a word means, as kubectl reads it: `svc`, `service`, `services`, `Service`. Throws {@link UsageError}. */
export function findType(word: string): ResourceType {
  const text = word.toLowerCase().split('.')[0] ?? ''
  const type = resourceTypes.find(
    ({ plural, singular, shortNames }) => plural === text || singular === text || shortNames.includes(text),
  )
  if (type) return type
  const known = resourceTypes.map(({ plural }) => plural).join(', ')
  throw new UsageError(`${JSON.stringify(word)} is not a kind that the API has (expected one of ${known})`, {
    exitCode: 2,
  })
}

/** The path of a kind, or of one object. `namespace` empty: of all namespaces. */
export function pathOf(type: ResourceType, namespace: string, name = ''): string {
  const root = type.group === '' ? `/api/${type.version}` : `/apis/${groupVersion(type)}`
  const home = type.namespaced && namespace !== '' ? `/namespaces/${encodeURIComponent(namespace)}` : ''
  return `${root}${home}/${type.plural}${name === '' ? '' : `/${encodeURIComponent(name)}`}`
}

/** Reads the objects of files and folders (`*.yaml`, `*.yml`, `*.json`), or of the standard input (`-`). Throws {@link UsageError}. */
export function readObjects(paths: readonly string[], defaultNamespace: string): readonly NamedObject[] {
  return paths.flatMap(filesOf).flatMap((file) => {
    let documents: unknown[]
    try {
      documents = loadAll(readFileSync(file === '-' ? 0 : file, 'utf8'))
    } catch (error) {
      throw new UsageError(`${file}: ${(error as Error).message}`, { cause: error })
    }
    const objects = documents.filter((document) => document !== null && document !== undefined).flatMap(expandList)
    return objects.map((object) => nameObject(object, { file, defaultNamespace }))
  })
}

function filesOf(path: string): readonly string[] {
  if (path === '-') return ['-']
  try {
    if (!statSync(path).isDirectory()) return [path]
    const names = readdirSync(path).filter((name) => /\.(ya?ml|json)$/.test(name))
    return names.sort().map((name) => join(path, name))
  } catch (error) {
    throw new UsageError(`${path}: ${(error as Error).message}`, { exitCode: 2, cause: error })
  }
}

function expandList(document: unknown): readonly unknown[] {
  const isList = isJsonObject(document) && textAt(document, 'kind').endsWith('List') && Array.isArray(document['items'])
  return isList ? (document['items'] as unknown[]) : [document]
}

function nameObject(object: unknown, from: { readonly file: string; readonly defaultNamespace: string }): NamedObject {
  const [apiVersion, kind] = [textAt(object, 'apiVersion'), textAt(object, 'kind')]
  const type = resourceTypes.find((type) => type.kind === kind && groupVersion(type) === apiVersion)
  if (!type || !isJsonObject(object)) {
    throw new UsageError(`${from.file}: the API has no ${apiVersion} ${kind || '(an object without a kind)'}`)
  }
  const name = textAt(object['metadata'], 'name')
  if (name === '') throw new UsageError(`${from.file}: a ${kind} has no metadata.name`)
  const namespace = type.namespaced ? textAt(object['metadata'], 'namespace') || from.defaultNamespace : ''
  return { type, namespace, name, object }
}
