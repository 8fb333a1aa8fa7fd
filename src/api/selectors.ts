import { ApiError } from './api-error.ts'
import { isJsonObject, type KubeObject } from './kube-object.ts'

/** Says whether an object is meant. */
export type Selector = (object: KubeObject) => boolean

const everything: Selector = () => true

/** Reads a label selector: `app=web,tier in (a,b),!old`. Throws {@link ApiError}. */
export function parseLabelSelector(text: string): Selector {
  const requirements = splitTopLevel(text).map((part) => labelRequirement(part.trim()))
  if (requirements.length === 0) return everything
  return (object) => requirements.every((fits) => fits(object.metadata.labels ?? {}))
}

/** Reads a field selector: `metadata.name=web,spec.nodeName!=a`; `known` are the fields of this kind. Throws {@link ApiError}. */
export function parseFieldSelector(text: string, known: readonly string[]): Selector {
  const requirements = text
    .split(',')
    .filter((part) => part.trim() !== '')
    .map((part): Selector => {
      const [, path = '', operator, value = ''] = /^([^=!]+)(==|=|!=)(.*)$/.exec(part.trim()) ?? []
      if (operator === undefined) throw new ApiError('BadRequest', `invalid field selector ${JSON.stringify(part)}`)
      const field = path.trim()
      if (!['metadata.name', 'metadata.namespace', ...known].includes(field)) {
        throw new ApiError('BadRequest', `field label not supported: ${field}`)
      }
      return (object) => (fieldText(object, field) === value.trim()) === (operator !== '!=')
    })
  return requirements.length === 0 ? everything : (object) => requirements.every((fits) => fits(object))
}

/** The exact name that a field selector asks for, so that nothing else needs to be looked at. */
export function selectedName(text: string): string | undefined {
  return /(?:^|,)\s*metadata\.name\s*==?\s*([^,\s]+)/.exec(text)?.[1]
}

function fieldText(object: KubeObject, path: string): string {
  let at: unknown = object
  for (const step of path.split('.')) at = isJsonObject(at) ? at[step] : undefined
  return typeof at === 'string' || typeof at === 'number' || typeof at === 'boolean' ? String(at) : ''
}

function labelRequirement(text: string): (labels: Readonly<Record<string, string>>) => boolean {
  const set = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(text)
  if (set) {
    const [, key = '', operator, list = ''] = set
    const values = list.split(',').map((value) => value.trim())
    return (labels) => {
      const value = own(labels, checkKey(key))
      return operator === 'in' ? value !== undefined && values.includes(value) : !values.includes(value ?? '\u0000')
    }
  }
  const equality = /^([^=!\s]+)\s*(==|=|!=)\s*([^=!\s]*)$/.exec(text)
  if (equality) {
    const [, key = '', operator, value = ''] = equality
    checkKey(key)
    return (labels) => (own(labels, key) === value) === (operator !== '!=')
  }
  const number = /^(\S+)\s*([<>])\s*(-?\d+)$/.exec(text)
  if (number) {
    const [, key = '', operator, limit] = number
    return (labels) => {
      const value = own(labels, key)
      return value !== undefined && (operator === '<' ? Number(value) < Number(limit) : Number(value) > Number(limit))
    }
  }
  const absent = text.startsWith('!')
  const key = checkKey((absent ? text.slice(1) : text).trim())
  return (labels) => Object.hasOwn(labels, key) !== absent
}

function own(labels: Readonly<Record<string, string>>, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined
}

function checkKey(key: string): string {
  if (/^([a-z0-9A-Z.-]+\/)?[a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?$/.test(key)) return key
  throw new ApiError('BadRequest', `unable to parse requirement: ${JSON.stringify(key)} is not a label name`)
}

/** Splits at commas that stand outside of parentheses. */
function splitTopLevel(text: string): string[] {
  const parts: string[] = []
  let inside = false
  let from = 0
  for (let at = 0; at < text.length; at++) {
    const character = text[at]
    if (character === '(') inside = true
    else if (character === ')') inside = false
    else if (character === ',' && !inside) {
      parts.push(text.slice(from, at))
      from = at + 1
    }
  }
  parts.push(text.slice(from))
  return parts.filter((part) => part.trim() !== '')
}
