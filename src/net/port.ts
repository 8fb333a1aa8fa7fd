import { ParseError } from './parse-error.ts'

declare const brand: unique symbol

/** A transport port, 1..65535. */
export type Port = number & { readonly [brand]: 'Port' }

/** Checks a number as a port. Throws {@link ParseError}. */
export function parsePort(value: unknown): Port {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535) return value as Port
  throw new ParseError(`${JSON.stringify(value)} is not a port (expected a whole number from 1 to 65535)`)
}
