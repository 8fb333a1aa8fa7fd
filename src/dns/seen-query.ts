import type { Name } from '../dns-message/name.ts'

/** A query that was answered, as logs and lists of the busiest see it. */
export interface SeenQuery {
  /** As the socket says it. */
  readonly client: string
  readonly name: Name
  readonly type: number
  readonly rcode: number
  /** Who answered: one of `answerers` (dns-counts.ts). */
  readonly from: string
  readonly tcp: boolean
  /** From its arrival to the answer. */
  readonly seconds: number
}
