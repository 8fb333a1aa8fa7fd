import { ParseError } from '../net/parse-error.ts'

const label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/

/**
 * Checks a DNS label as Kubernetes names Services and namespaces (RFC 1123; Services may begin with a digit since
 * KEP-5311). Throws {@link ParseError}.
 */
export function parseLabelName(text: string): string {
  if (label.test(text)) return text
  throw new ParseError(
    `${JSON.stringify(text)} is not a name (expected at most 63 of a-z, 0-9 and "-", with a letter or digit at both ends)`,
  )
}

/** Checks a DNS subdomain as Kubernetes names most objects (RFC 1123). Throws {@link ParseError}. */
export function parseSubdomainName(text: string): string {
  if (text.length <= 253 && subdomain.test(text)) return text
  throw new ParseError(
    `${JSON.stringify(text)} is not a name (expected at most 253 of a-z, 0-9, "-" and ".", with a letter or digit at both ends of each part)`,
  )
}

/** Checks the name of a Service's or container's port: a label. Throws {@link ParseError}. */
export function parsePortName(text: string): string {
  return text === '' ? text : parseLabelName(text)
}
