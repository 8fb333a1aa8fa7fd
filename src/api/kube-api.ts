import { randomInt, randomUUID } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import { ApiError } from './api-error.ts'
import { applyDefaults } from './check-fields.ts'
import { coreTypes } from './core-types.ts'
import { decodeObject, type FieldValidation } from './decode-object.ts'
import { applyJsonPatch, applyMergePatch } from './json-patch.ts'
import { isJsonObject, sameJson, type KubeObject } from './kube-object.ts'
import { trackUpdate } from './managed-fields.ts'
import { listObjects, type ListOptions, type ObjectList, type OpenLists } from './list-objects.ts'
import type { ObjectStore, Transaction } from './object-store.ts'
import { podTypes } from './pod-types.ts'
import { prepareService } from './prepare-service.ts'
import { notFound, refuseNamespace, refuseStale } from './refuse.ts'
import { removeObject, removeIfFinal, type RemoveOptions, type Removal } from './remove-object.ts'
import { qualifiedName, type ResourceType } from './resources.ts'
import { readSchema, type Schema } from './schema.ts'
import { parseFieldSelector, parseLabelSelector } from './selectors.ts'
import { sameButManagedFields, sameManagers, serverSideApply } from './server-side-apply.ts'
import type { ServiceClaims } from './service-claims.ts'
import { applyStrategicMergePatch } from './strategic-merge-patch.ts'
import { refuseMisuse, validateObject } from './validate-object.ts'

/** Which object, or which kind. */
export interface Target {
  readonly type: ResourceType
  /** Empty for kinds without namespaces, and for lists of all namespaces. */
  readonly namespace: string
  /** Empty for lists. */
  readonly name: string
  readonly subresource: '' | 'status'
}

/** A change of one object, as it is about to be made. */
export interface Change {
  readonly target: Target
  /** Undefined: the object is created. */
  readonly before: KubeObject | undefined
  /** Undefined: it is removed. */
  readonly after: KubeObject | undefined
}

/** Whether who writes may do so can depend on the object: this throws {@link ApiError} when he may not. */
export type Admit = (change: Change) => void

/** How a write is done. */
export interface WriteOptions {
  readonly admit?: Admit | undefined
  readonly fieldManager: string
  readonly fieldValidation: FieldValidation
  readonly dryRun: boolean
  /** Warnings for the client are added here. */
  readonly warnings: string[]
}

/** The four ways to patch, by their media types. */
export type Patch =
  | { readonly kind: 'json' | 'merge' | 'strategic'; readonly body: unknown }
  | { readonly kind: 'apply'; readonly body: unknown; readonly force: boolean }

/** What a write did. */
export interface Written {
  readonly object: KubeObject
  readonly created: boolean
}

/** What the verbs work on. */
export interface KubeApiOptions {
  readonly store: ObjectStore
  readonly claims: ServiceClaims
  readonly clock: Clock
}

/** Kinds that a PUT may create, as in Kubernetes. */
const createdByUpdate: ReadonlySet<string> = new Set(['Endpoints', 'Event', 'Lease'])

/** The letters of generated names (apimachinery rand): no vowels, so no words. */
const nameLetters = 'bcdfghjklmnpqrstvwxz2456789'

/** Carries the result of a dry run out of the transaction that it undoes. */
class DryRun extends Error {
  readonly result: unknown

  constructor(result: unknown) {
    super('dry run')
    this.result = result
  }
}

/** The verbs of the Kubernetes API over a store of objects. Errors are {@link ApiError}s. */
export class KubeApi {
  readonly schema: Schema = readSchema(coreTypes, podTypes)
  readonly store: ObjectStore
  readonly #claims: ServiceClaims
  readonly #clock: Clock
  readonly #openLists: OpenLists = new Map()

  constructor({ store, claims, clock }: KubeApiOptions) {
    this.store = store
    this.#claims = claims
    this.#clock = clock
    store.onReplace((resource, before, after) => claims.replace(resource, before, after))
  }

  get({ type, namespace, name }: Target): KubeObject {
    return this.store.get(qualifiedName(type), namespace, name) ?? notFound(type, name)
  }

  list({ type, namespace }: Target, options: ListOptions): ObjectList {
    return listObjects({ store: this.store, open: this.#openLists, clock: this.#clock }, { type, namespace }, options)
  }

  create(target: Target, body: unknown, options: WriteOptions): Promise<Written> {
    return this.#writeOne(target, options, (transaction) => this.#create(transaction, target, { body, options }))
  }

  update(target: Target, body: unknown, options: WriteOptions): Promise<Written> {
    const { type, namespace, name } = target
    return this.#writeOne(target, options, (transaction) => {
      const before = transaction.get(qualifiedName(type), namespace, name)
      const given = this.#decode(target, body, options)
      given.metadata.name ||= name
      if (given.metadata.name !== name) {
        throw new ApiError(
          'BadRequest',
          `the name of the object (${given.metadata.name}) does not match the name on the URL (${name})`,
        )
      }
      if (before) return this.#replace(transaction, target, { before, given, options })
      if (
        createdByUpdate.has(type.kind) &&
        target.subresource === '' &&
        (given.metadata.resourceVersion ?? '') === ''
      ) {
        return this.#create(transaction, target, { body: given, options })
      }
      return notFound(type, name)
    })
  }

  patch(target: Target, patch: Patch, options: WriteOptions): Promise<Written> {
    return this.#writeOne(target, options, (transaction) => {
      if (patch.kind === 'apply') return this.#apply(transaction, target, { ...patch, options })
      const { type, namespace, name } = target
      const before = transaction.get(qualifiedName(type), namespace, name) ?? notFound(type, name)
      const given = this.#decode(target, this.#patched(patch, before), options)
      if (given.metadata.name !== name) throw new ApiError('BadRequest', 'metadata.name cannot be changed by a patch')
      return this.#replace(transaction, target, { before, given, options })
    })
  }

  remove(
    target: Target,
    options: RemoveOptions & { readonly dryRun: boolean; readonly admit?: Admit | undefined },
  ): Promise<Removal> {
    const now = this.#now()
    return this.#write(options, (transaction) => {
      const { type, namespace, name } = target
      const object = transaction.get(qualifiedName(type), namespace, name) ?? notFound(type, name)
      options.admit?.({ target, before: object, after: undefined })
      return removeObject(transaction, { type, object, now, preconditions: options.preconditions })
    })
  }

  /** Removes all objects that the selectors choose; returns what it removed. */
  removeCollection(target: Target, options: ListOptions & { readonly dryRun: boolean }): Promise<readonly Removal[]> {
    const { type, namespace } = target
    const byLabel = parseLabelSelector(options.labelSelector)
    const byField = parseFieldSelector(options.fieldSelector, type.selectableFields)
    const now = this.#now()
    return this.#write(options, (transaction) => {
      const chosen = [...transaction.list(qualifiedName(type))].filter(
        (object) => (namespace === '' || object.metadata.namespace === namespace) && byLabel(object) && byField(object),
      )
      return chosen.map((object) => removeObject(transaction, { type, object, now }))
    })
  }

  /** What a dry run answers has the revision that the object has, if any: there is none of the write. */
  async #writeOne(
    { type, namespace }: Target,
    options: WriteOptions,
    job: (transaction: Transaction) => Written,
  ): Promise<Written> {
    const written = await this.#write(options, job)
    if (!options.dryRun) return written
    const { resourceVersion: _, ...metadata } = written.object.metadata
    const there = this.store.get(qualifiedName(type), namespace, metadata.name)?.metadata
    const { resourceVersion } = there ?? {}
    return {
      ...written,
      object: {
        ...written.object,
        metadata: { ...metadata, ...(resourceVersion !== undefined && { resourceVersion }) },
      },
    }
  }

  /** A dry run does everything, and then undoes it. */
  async #write<T>(options: { readonly dryRun: boolean }, job: (transaction: Transaction) => T): Promise<T> {
    if (!options.dryRun) return this.store.write(job)
    try {
      return await this.store.write((transaction): T => {
        throw new DryRun(job(transaction))
      })
    } catch (error) {
      if (error instanceof DryRun) return error.result as T
      throw error
    }
  }

  #now(): string {
    return this.#clock
      .now()
      .toISOString()
      .replace(/\.\d+Z$/, 'Z')
  }

  #decode({ type, namespace }: Target, body: unknown, options: WriteOptions): KubeObject {
    const { fieldValidation, warnings } = options
    return decodeObject(body, { schema: this.schema, type, namespace, fieldValidation, warnings })
  }

  #patched(patch: Patch, before: KubeObject): unknown {
    if (patch.kind === 'json') return applyJsonPatch(before, patch.body)
    if (!isJsonObject(patch.body)) throw new ApiError('BadRequest', 'the patch must be an object')
    if (patch.kind === 'merge') return applyMergePatch(before, patch.body)
    return applyStrategicMergePatch(this.schema, before.kind, { document: before, patch: patch.body })
  }

  #create(
    transaction: Transaction,
    target: Target,
    { body, options, managed = false }: { body: unknown; options: WriteOptions; managed?: boolean },
  ): Written {
    const { type, namespace } = target
    const resource = qualifiedName(type)
    const object = this.#decode(target, body, options)
    const { metadata } = object
    if ((metadata.resourceVersion ?? '') !== '') {
      throw new ApiError('BadRequest', 'resourceVersion should not be set on objects to be created')
    }
    if (metadata.name === '' && (metadata.generateName ?? '') !== '')
      metadata.name = generateName(metadata.generateName ?? '')
    if (type.namespaced) refuseNamespace(transaction, type, { namespace, name: metadata.name })
    if (transaction.get(resource, namespace, metadata.name)) {
      const message = `${resource} "${metadata.name}" already exists`
      throw new ApiError('AlreadyExists', message, {
        details: { name: metadata.name, group: type.group, kind: type.plural },
      })
    }
    delete metadata.deletionTimestamp
    delete metadata['deletionGracePeriodSeconds']
    delete metadata['selfLink']
    metadata.uid = randomUUID()
    metadata.creationTimestamp = this.#now()
    if (type.hasGeneration) metadata.generation = 1
    else delete metadata.generation
    if (type.hasStatus) delete object.status
    const tracked = managed ? object : this.#track(undefined, object, { target, options })
    const completed = this.#complete(type, tracked, undefined)
    options.admit?.({ target, before: undefined, after: completed })
    return { object: transaction.put(resource, completed), created: true }
  }

  #replace(
    transaction: Transaction,
    target: Target,
    {
      before,
      given,
      options,
      managed = false,
    }: { before: KubeObject; given: KubeObject; options: WriteOptions; managed?: boolean },
  ): Written {
    const { type, subresource } = target
    refuseStale(type, before, given)
    const { metadata } = given
    const { uid, creationTimestamp, deletionTimestamp, generation, generateName, managedFields } = before.metadata
    Object.assign(metadata, { uid, creationTimestamp, deletionTimestamp, generation, generateName })
    metadata['deletionGracePeriodSeconds'] = before.metadata['deletionGracePeriodSeconds']
    for (const key of Object.keys(metadata)) if (metadata[key] === undefined) delete metadata[key]
    let object: KubeObject = given
    if (subresource === 'status') {
      const { managedFields: claimed = managedFields } = metadata
      object = structuredClone({
        ...before,
        metadata: { ...before.metadata, ...(claimed && { managedFields: claimed }) },
      })
      if (given.status === undefined) delete object.status
      else object.status = given.status
    } else if (type.hasStatus) {
      if (before.status === undefined) delete object.status
      else object.status = structuredClone(before.status)
    }
    const completed = this.#complete(type, object, before)
    const tracked = managed ? completed : this.#track(before, completed, { target, options })
    options.admit?.({ target, before, after: tracked })
    if (sameButManagedFields(tracked, before) && sameManagers(tracked, before))
      return { object: before, created: false }
    if (type.hasGeneration && !sameJson(withoutMetadata(tracked), withoutMetadata(before))) {
      tracked.metadata.generation = (before.metadata.generation ?? 0) + 1
    }
    if (deletionTimestamp !== undefined && (tracked.metadata.finalizers ?? []).length === 0) {
      return { object: removeIfFinal(transaction, type, tracked), created: false }
    }
    return { object: transaction.put(qualifiedName(type), tracked), created: false }
  }

  #apply(
    transaction: Transaction,
    target: Target,
    { body, force, options }: { body: unknown; force: boolean; options: WriteOptions },
  ): Written {
    const { type, namespace, name, subresource } = target
    if (!isJsonObject(body) || body['apiVersion'] === undefined || body['kind'] === undefined) {
      throw new ApiError('BadRequest', 'apiVersion and kind are required in an applied object')
    }
    const applied = this.#decode(target, body, options)
    applied.metadata.name ||= name
    if (applied.metadata.name !== name)
      throw new ApiError('BadRequest', 'metadata.name does not match the name on the URL')
    if ((applied.metadata.managedFields ?? []).length > 0)
      throw new ApiError('BadRequest', 'metadata.managedFields must be nil')
    delete applied.metadata.managedFields
    const live = transaction.get(qualifiedName(type), namespace, name)
    if (subresource === 'status') {
      if (!live) return notFound(type, name)
      const { apiVersion, kind, status } = applied
      Object.assign(applied, { metadata: { name, ...(namespace !== '' && { namespace }) } })
      for (const key of Object.keys(applied)) if (!['metadata', 'status'].includes(key)) delete applied[key]
      Object.assign(applied, { apiVersion, kind }, status && { status })
    } else if (type.hasStatus) delete applied.status
    if (live && (applied.metadata.resourceVersion ?? '') !== '') refuseStale(type, live, applied)
    if (applied.metadata.uid !== undefined && applied.metadata.uid !== live?.metadata.uid)
      refuseStale(type, live ?? applied, applied)
    const manager = { manager: options.fieldManager, operation: 'Apply', subresource } as const
    const merged = serverSideApply({ schema: this.schema, live, applied, manager, force, now: this.#now() })
    if (!live) return this.#create(transaction, target, { body: merged, options, managed: true })
    return this.#replace(transaction, target, { before: live, given: structuredClone(merged), options, managed: true })
  }

  #track(
    before: KubeObject | undefined,
    after: KubeObject,
    { target, options }: { target: Target; options: WriteOptions },
  ): KubeObject {
    const manager = { manager: options.fieldManager, operation: 'Update', subresource: target.subresource } as const
    return trackUpdate(this.schema, { before, after }, { manager, now: this.#now() })
  }

  /** Fills in what was left out, and checks the whole. */
  #complete(type: ResourceType, object: KubeObject, before: KubeObject | undefined): KubeObject {
    applyDefaults(this.schema, type.kind, object)
    validateObject(type, object, before)
    switch (type.kind) {
      case 'Service':
        object.spec ??= {}
        prepareService(object, before, this.#claims)
        validateObject(type, object, before)
        refuseMisuse(type, object)
        break
      case 'Namespace':
        object.metadata.labels = { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name }
        object.spec = { finalizers: ['kubernetes'] }
        object.status ??= { phase: 'Active' }
        break
      case 'Pod':
        object.status ??= { phase: 'Pending' }
        break
      default:
    }
    return object
  }
}

function withoutMetadata({ metadata: _metadata, status: _status, ...rest }: KubeObject): object {
  return rest
}

function generateName(prefix: string): string {
  return prefix.slice(0, 58) + Array.from({ length: 5 }, () => nameLetters[randomInt(nameLetters.length)]).join('')
}
