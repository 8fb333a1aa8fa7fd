import { EVENT_ID, getScalarValue, parseEvents } from 'js-yaml'

/** A collection that is open while the events go by. */
interface Open {
  readonly path: string
  readonly kind: 'mapping' | 'sequence' | 'document'
  /** Index of the next element, or number of keys and values seen. */
  count: number
  /** Path of the value that the last key announced. */
  keyPath: string
}

/**
 * The line (counted from 0) of the field `path`, like `spec.ports[0].port`, in a YAML document; of the nearest enclosing
 * field when it is missing. Walks the text once more, so it is for messages only.
 */
export function locateField(text: string, path: string): number {
  let best = { length: -1, offset: 0 }
  const stack: Open[] = []
  const visit = (offset: number, key?: string): string => {
    const parent = stack.at(-1)
    if (!parent || parent.kind === 'document') return ''
    const index = parent.count++
    if (parent.kind === 'mapping' && index % 2 === 1) return parent.keyPath
    const own =
      parent.kind === 'sequence'
        ? `${parent.path}[${index}]`
        : parent.path === ''
          ? (key ?? '')
          : `${parent.path}.${key}`
    parent.keyPath = own
    if (covers(own, path) && own.length > best.length) best = { length: own.length, offset }
    return own
  }
  for (const event of parseEvents(text, {})) {
    switch (event.type) {
      case EVENT_ID.DOCUMENT:
        stack.push({ path: '', kind: 'document', count: 0, keyPath: '' })
        break
      case EVENT_ID.MAPPING:
        stack.push({ path: visit(event.start), kind: 'mapping', count: 0, keyPath: '' })
        break
      case EVENT_ID.SEQUENCE:
        stack.push({ path: visit(event.start), kind: 'sequence', count: 0, keyPath: '' })
        break
      case EVENT_ID.SCALAR:
        visit(event.valueStart, getScalarValue(text, event))
        break
      case EVENT_ID.ALIAS:
        visit(event.anchorStart)
        break
      case EVENT_ID.POP:
        stack.pop()
        break
      default:
        return event satisfies never
    }
  }
  return lineAt(text, best.offset)
}

/** Number of line breaks before `offset`. */
export function lineAt(text: string, offset: number): number {
  let line = 0
  for (let at = text.indexOf('\n'); at !== -1 && at < offset; at = text.indexOf('\n', at + 1)) line++
  return line
}

function covers(outer: string, path: string): boolean {
  if (!path.startsWith(outer) || outer === '') return false
  return path.length === outer.length || path[outer.length] === '.' || path[outer.length] === '['
}
