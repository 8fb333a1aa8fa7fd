import { isIP } from 'node:net'
import { isAtOrBelow, type Name, type NameKey } from '../dns-message/name.ts'
import type { Question } from '../dns-message/query.ts'
import { type Answer, emptyAnswer, extendedErrors, rcodes, recordTypes, textSet } from '../dns-message/record-set.ts'
import { type Cidr, cidrContains } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import type { NameStage } from './resolve.ts'

/** One line of CoreDNS's `acl`: the first that matches counts. */
export interface AccessRule {
  /** `block` is REFUSED, `filter` is an answer without records. */
  readonly action: 'allow' | 'block' | 'filter'
  /** Undefined: all types. */
  readonly types: ReadonlySet<number> | undefined
  /** Undefined: all clients. */
  readonly clients: readonly Cidr[] | undefined
}

export interface AccessRulesOptions {
  /** Empty: all names. */
  readonly zones: readonly Name[]
  readonly rules: readonly AccessRule[]
}

/** Who may ask for what. */
export class AccessRules implements NameStage {
  readonly #options: AccessRulesOptions

  constructor(options: AccessRulesOptions) {
    this.#options = options
  }

  touches(zone: NameKey): boolean {
    const { zones } = this.#options
    return zones.length === 0 || zones.some(({ key }) => isAtOrBelow(key, zone) || isAtOrBelow(zone, key))
  }

  answer({ name, type }: Question, client: string): Answer | undefined {
    const { zones, rules } = this.#options
    if (zones.length > 0 && !zones.some((zone) => isAtOrBelow(name.key, zone.key))) return undefined
    const [plain = ''] = client.split('%')
    const address = isIP(plain) === 0 ? undefined : parseIp(plain)
    const rule = rules.find(
      ({ types, clients }) =>
        (!types || types.has(type)) &&
        (!clients || (address !== undefined && clients.some((range) => cidrContains(range, address)))),
    )
    switch (rule?.action) {
      case 'block':
        return blocked
      case 'filter':
        return filtered
      default:
        return undefined
    }
  }
}

const prohibited = { code: extendedErrors.PROHIBITED, text: 'an access rule of this server forbids it' }
const blocked: Answer = { ...emptyAnswer(rcodes.REFUSED, prohibited), from: 'acl' }
const filtered: Answer = { ...emptyAnswer(rcodes.NOERROR, prohibited), from: 'acl' }

/** Questions of type ANY get one small record, whatever the name (RFC 8482 section 4.2): CoreDNS's `any`. */
export const minimalAny: NameStage = {
  // The cluster itself says the same of its names.
  touches: () => false,
  answer: ({ name, type }) =>
    type === recordTypes.ANY
      ? {
          ...emptyAnswer(rcodes.NOERROR),
          answer: [textSet(recordTypes.HINFO, ['ANY obsoleted', 'See RFC 8482'], { owner: name, ttl: 8482 })],
          from: 'any',
        }
      : undefined,
}
