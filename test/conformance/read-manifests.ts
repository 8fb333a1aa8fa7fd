import { type ManifestReader, show } from '../../src/model/manifest-reader.ts'
import { refuseUnknown, required } from './case-reader.ts'

/** The kinds that a sort of case may name, each with its apiVersion. */
export type Kinds = Readonly<Record<string, string>>

/** A Kubernetes object as a case file has it. What is wrong inside of it is for the program to find that is tested. */
export interface CaseManifest<K extends string> {
  readonly apiVersion: string
  readonly kind: K
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> }
  readonly [field: string]: unknown
}

/** An object that a step takes away. */
export interface CaseDeletion<K extends string> {
  readonly kind: K
  readonly namespace: string
  readonly name: string
}

/** The objects of a list. Problems stay in the reader. */
export function readManifests<T extends Kinds>(
  reader: ManifestReader,
  key: string,
  kinds: T,
): CaseManifest<keyof T & string>[] {
  return Array.from(reader.objects(key), (manifest, index) => {
    const kind = readKind(manifest, kinds)
    const apiVersion = required(manifest, 'apiVersion', (field) => manifest.text(field))
    if (kind !== undefined && apiVersion !== undefined && apiVersion !== kinds[kind])
      manifest.fail('apiVersion', `${show(apiVersion)} is not that of a ${kind} (expected ${kinds[kind]})`)
    const metadata = manifest.object('metadata')
    required(metadata, 'name', (field) => metadata.text(field))
    metadata.text('namespace')
    return reader.list(key)[index] as CaseManifest<keyof T & string>
  })
}

/** What the list `delete` of a step names. Problems stay in the reader. */
export function readDeletions<T extends Kinds>(step: ManifestReader, kinds: T): CaseDeletion<keyof T & string>[] {
  return Array.from(step.objects('delete'), (deletion) => {
    refuseUnknown(deletion, ['kind', 'namespace', 'name'])
    return {
      kind: readKind(deletion, kinds) ?? 'Service',
      namespace: deletion.text('namespace') ?? '',
      name: required(deletion, 'name', (key) => deletion.text(key)) ?? '',
    }
  })
}

function readKind<T extends Kinds>(reader: ManifestReader, kinds: T): (keyof T & string) | undefined {
  return required(reader, 'kind', (key) => reader.oneOf(key, Object.keys(kinds)))
}
