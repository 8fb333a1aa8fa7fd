import { isJsonObject } from './kube-object.ts'
import { typeOf, type ScalarType, type Schema, type SchemaNode } from './schema.ts'

/** A field that its type does not have. */
export interface UnknownField {
  /** For people: `spec.prots`. */
  readonly path: string
  /** Keys and indexes that lead to it; keys may have dots. */
  readonly steps: readonly (string | number)[]
}

/** What {@link checkFields} found. */
export interface FieldFindings {
  /** Fields that the type does not have. */
  readonly unknown: readonly UnknownField[]
  /** Values of a wrong type, said like Kubernetes does when it cannot decode an object. */
  readonly wrong: readonly string[]
}

/** Compares a value with its type: which fields are unknown, which have a value of another type. */
export function checkFields(schema: Schema, typeName: string, value: unknown): FieldFindings {
  const findings = { unknown: [] as UnknownField[], wrong: [] as string[] }
  const steps: (string | number)[] = []
  walk({ kind: 'ref', name: typeName, atomic: false }, value, '')
  return findings

  function walk(node: SchemaNode, value: unknown, path: string): void {
    if (value === null || value === undefined || node.kind === 'any') return
    switch (node.kind) {
      case 'scalar':
        if (!fits(node.type, value)) findings.wrong.push(`${path}: ${shown(value)} is not ${node.type}`)
        return
      case 'map':
        if (!isJsonObject(value)) findings.wrong.push(`${path}: ${shown(value)} is not an object`)
        else for (const [key, child] of Object.entries(value)) into(key, node.value, child, `${path}.${key}`)
        return
      case 'list':
        if (!Array.isArray(value)) findings.wrong.push(`${path}: ${shown(value)} is not a list`)
        else for (const [index, child] of value.entries()) into(index, node.item, child, `${path}[${index}]`)
        return
      case 'ref': {
        if (!isJsonObject(value)) {
          findings.wrong.push(`${path}: ${shown(value)} is not an object`)
          return
        }
        const fields = typeOf(schema, node)?.fields
        for (const [key, child] of Object.entries(value)) {
          const below = path === '' ? key : `${path}.${key}`
          const field = fields?.get(key)
          if (field) into(key, field.node, child, below)
          else findings.unknown.push({ path: below, steps: [...steps, key] })
        }
        return
      }
      default:
        node satisfies never
    }
  }

  function into(step: string | number, node: SchemaNode, value: unknown, path: string): void {
    steps.push(step)
    walk(node, value, path)
    steps.pop()
  }
}

/** Gives fields that are missing their defaults, in place; objects that are missing are not made. */
export function applyDefaults(schema: Schema, typeName: string, value: unknown): void {
  walk({ kind: 'ref', name: typeName, atomic: false }, value)

  function walk(node: SchemaNode, value: unknown): void {
    if (node.kind === 'list' && Array.isArray(value)) for (const child of value) walk(node.item, child)
    if (!isJsonObject(value)) return
    if (node.kind === 'map') for (const child of Object.values(value)) walk(node.value, child)
    for (const field of typeOf(schema, node)?.fields.values() ?? []) {
      const present = value[field.name] ?? undefined
      if (present !== undefined && present !== '') walk(field.node, present)
      else if (field.defaultValue !== undefined) value[field.name] = field.defaultValue
    }
  }
}

function fits(type: ScalarType, value: unknown): boolean {
  switch (type) {
    case 'string':
    case 'bytes':
    case 'time':
      return typeof value === 'string'
    case 'quantity':
    case 'intstr':
      return typeof value === 'string' || typeof value === 'number'
    case 'int32':
      return Number.isInteger(value) && Math.abs(value as number) <= 0x7fffffff
    case 'int64':
      return Number.isInteger(value)
    case 'boolean':
      return typeof value === 'boolean'
    default:
      return type satisfies never
  }
}

function shown(value: unknown): string {
  const text = JSON.stringify(value)
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}
