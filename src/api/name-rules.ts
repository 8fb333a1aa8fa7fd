/*
 * What names may look like, and how Kubernetes 1.36 says that one is wrong (apimachinery validate/content): people search for
 * these sentences. Each function returns what is wrong; nothing when all is well.
 */

const labelFormat = '[a-z0-9]([-a-z0-9]*[a-z0-9])?'
const subdomainFormat = `${labelFormat}(\\.${labelFormat})*`
const keyFormat = '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'
const valueFormat = `(${keyFormat})?`
const ends = 'and must start and end with an alphanumeric character'

/** A label of DNS (RFC 1123): `web`, `123-abc`. */
export function labelProblems(text: string): string[] {
  const rule = `a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', ${ends}`
  const problems = tooLong(text, 63)
  if (fits(text, labelFormat)) return problems
  return [
    ...problems,
    fits(text, subdomainFormat) ? 'must not contain dots' : said(rule, labelFormat, ['my-name', '123-abc']),
  ]
}

/** A name of DNS (RFC 1123): `example.com`. */
export function subdomainProblems(text: string): string[] {
  const rule = `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', ${ends}`
  return [...tooLong(text, 253), ...(fits(text, subdomainFormat) ? [] : [said(rule, subdomainFormat, ['example.com'])])]
}

/** The key of a label, a qualified name: `app`, `example.com/app`. */
export function keyProblems(text: string): string[] {
  const rule = `must consist of alphanumeric characters, '-', '_' or '.', ${ends}`
  const sentence = said(rule, keyFormat, ['MyName', 'my.name', '123-abc'])
  const parts = text.split('/')
  if (parts.length > 2)
    return [`a valid label key ${sentence} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`]
  const [prefix, name = ''] = parts.length === 2 ? parts : [undefined, parts[0]]
  const problems: string[] = []
  if (prefix === '') problems.push('prefix part must be non-empty')
  else if (prefix !== undefined) problems.push(...subdomainProblems(prefix).map((problem) => `prefix part ${problem}`))
  if (name === '') problems.push('name part must be non-empty')
  else problems.push(...tooLong(name, 63).map((problem) => `name part ${problem}`))
  if (!fits(name, keyFormat)) problems.push(`name part ${sentence}`)
  return problems
}

/** The value of a label. */
export function valueProblems(text: string): string[] {
  const rule = `a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', ${ends}`
  return [
    ...tooLong(text, 63),
    ...(fits(text, valueFormat) ? [] : [said(rule, valueFormat, ['MyValue', 'my_value', '12345'])]),
  ]
}

/** The name of a port of a container: `http`. */
export function portNameProblems(text: string): string[] {
  const problems = tooLong(text, 15)
  if (!/^[-a-z0-9]+$/.test(text))
    problems.push('must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)')
  if (!/[a-z]/.test(text)) problems.push('must contain at least one letter (a-z)')
  if (text.includes('--')) problems.push('must not contain consecutive hyphens')
  if (text.startsWith('-') || text.endsWith('-')) problems.push('must not begin or end with a hyphen')
  return problems
}

function tooLong(text: string, max: number): string[] {
  return Buffer.byteLength(text) > max ? [`must be no more than ${max} bytes`] : []
}

function fits(text: string, format: string): boolean {
  return new RegExp(`^${format}$`).test(text)
}

function said(rule: string, format: string, examples: readonly string[]): string {
  return `${rule} (e.g. ${examples.map((example) => `'${example}', `).join(' or ')}regex used for validation is '${format}')`
}
