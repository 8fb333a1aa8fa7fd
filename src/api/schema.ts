/** What may stand at one place of an object. */
export type SchemaNode =
  | { readonly kind: 'scalar'; readonly type: ScalarType }
  /** Anything: its fields are not looked at. */
  | { readonly kind: 'any' }
  | { readonly kind: 'map'; readonly value: SchemaNode }
  | { readonly kind: 'list'; readonly item: SchemaNode; readonly keys: ListKeys }
  | { readonly kind: 'ref'; readonly name: string; readonly atomic: boolean }

/** How elements of a list are told apart: not at all, by themselves, or by fields of theirs (the first is the key of patches). */
export type ListKeys = 'atomic' | 'set' | readonly [string, ...string[]]

const scalarTypes = ['string', 'bytes', 'time', 'quantity', 'int32', 'int64', 'boolean', 'intstr'] as const
/** Kinds of scalars; `intstr` is a number or a text. */
export type ScalarType = (typeof scalarTypes)[number]

/** One field of a type. */
export interface SchemaField {
  readonly name: string
  readonly node: SchemaNode
  readonly required: boolean
  readonly defaultValue: string | number | boolean | undefined
  readonly description: string
}

/** A type with fields. */
export interface SchemaType {
  readonly name: string
  readonly description: string
  readonly fields: ReadonlyMap<string, SchemaField>
}

/** All types, by name. */
export type Schema = ReadonlyMap<string, SchemaType>

/**
 * Reads types written as text: a line `Name: description` begins one, and each indented line is a field with its name,
 * type and description. Types: a scalar, `any`, `<T>` (a map), `[T]` (a list as a whole), `[T]{set}`, `[T]{port,protocol}`
 * (a list whose elements have keys), a name, `Name.atomic`. `!` after a type: required; `=value`: the default.
 */
export function readSchema(...texts: readonly string[]): Schema {
  const types = new Map<string, SchemaType>()
  let fields = new Map<string, SchemaField>()
  for (const line of texts.join('\n').split('\n')) {
    if (line.trim() === '') continue
    if (!line.startsWith(' ')) {
      const [name = '', ...description] = line.split(':')
      fields = new Map()
      types.set(name, { name, description: description.join(':').trim(), fields })
      continue
    }
    const [, name = '', type = '', description = ''] = /^ +(\S+) +(\S+) *(.*)$/.exec(line) ?? []
    const [, node = '', required = '', value] = /^([^!=]+)(!?)(?:=(.*))?$/.exec(type) ?? []
    fields.set(name, {
      name,
      node: readNode(node),
      required: required === '!',
      defaultValue: value === undefined ? undefined : readDefault(value),
      description,
    })
  }
  for (const type of types.values()) {
    for (const field of type.fields.values()) checkRefs(field.node, types, `${type.name}.${field.name}`)
  }
  return types
}

/** The type that a node refers to; undefined for other nodes. */
export function typeOf(schema: Schema, node: SchemaNode): SchemaType | undefined {
  return node.kind === 'ref' ? schema.get(node.name) : undefined
}

function readNode(text: string): SchemaNode {
  const list = /^\[(.+)\](?:\{(.+)\})?$/.exec(text)
  if (list) {
    const keys = list[2] === undefined ? 'atomic' : list[2] === 'set' ? 'set' : list[2].split(',')
    return { kind: 'list', item: readNode(list[1] ?? ''), keys: keys as ListKeys }
  }
  const map = /^<(.+)>$/.exec(text)
  if (map) return { kind: 'map', value: readNode(map[1] ?? '') }
  if (text === 'any') return { kind: 'any' }
  const scalar = scalarTypes.find((type) => type === text)
  if (scalar) return { kind: 'scalar', type: scalar }
  const atomic = text.endsWith('.atomic')
  return { kind: 'ref', name: atomic ? text.slice(0, -'.atomic'.length) : text, atomic }
}

function readDefault(text: string): string | number | boolean {
  if (text === 'true' || text === 'false') return text === 'true'
  return /^\d+$/.test(text) ? Number(text) : text
}

function checkRefs(node: SchemaNode, types: Schema, place: string): void {
  if (node.kind === 'map') checkRefs(node.value, types, place)
  if (node.kind === 'list') checkRefs(node.item, types, place)
  if (node.kind === 'ref' && !types.has(node.name)) throw new TypeError(`${place}: no type ${node.name} in the schema`)
}
