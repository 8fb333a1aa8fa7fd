const decimal = /^(0|[1-9]\d*)$/

/**
 * Whether resource version `a` is newer than `b`. Those of one kind are decimal numbers of any length that grow
 * (KEP-5504); for others nothing is known, and the answer is undefined.
 */
export function isNewerVersion(a: string, b: string): boolean | undefined {
  if (!decimal.test(a) || !decimal.test(b)) return undefined
  return a.length === b.length ? a > b : a.length > b.length
}
