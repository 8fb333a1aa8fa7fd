import { formatCidr, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, type IpFamily } from '../net/ip-address.ts'
import { decodeAttributes, encodeAttributes, type AttributeTable } from '../netlink/attributes.ts'
import { addressFamilyNumbers, AF_UNSPEC, familyFromNumber } from '../netlink/families.ts'
import { NLM_F_CREATE, NLM_F_EXCL } from '../netlink/message.ts'
import type { NetlinkRequest, NetlinkSocket } from '../netlink/netlink-socket.ts'
import { fairleadProtocol } from './routes.ts'

/** include/uapi/linux/rtnetlink.h */
export const RTM_NEWRULE = 32
export const RTM_DELRULE = 33
export const RTM_GETRULE = 34

/** FR_ACT_TO_TBL of include/uapi/linux/fib_rules.h: go on in a table. */
const toTable = 1

/** enum FRA_* of include/uapi/linux/fib_rules.h. */
const ruleAttributes = {
  source: { id: 2, type: 'ip' },
  priority: { id: 6, type: 'u32' },
  table: { id: 15, type: 'u32' },
  protocol: { id: 21, type: 'u8' },
} as const satisfies AttributeTable

/** A routing rule: which table is asked for packets of a source (`ip rule`). Other selectors are not read. */
export interface RoutingRule {
  readonly family: IpFamily
  /** Undefined: whatever the source. */
  readonly source: Cidr | undefined
  readonly table: number
  /** Rules with a lower number are asked first; 0 is the kernel's own for local addresses, 32766 that for the main table. */
  readonly priority: number
  /** Who made it; {@link fairleadProtocol} is ours. */
  readonly protocol: number
}

/** What a rule of ours is. */
export type SourceRule = Pick<RoutingRule, 'table' | 'priority'> & { readonly source: Cidr }

/** Builds RTM_NEWRULE. The kernel answers EEXIST when there is such a rule. */
export function addRule(rule: SourceRule): NetlinkRequest {
  return ruleRequest('add', RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule)
}

/** Builds RTM_DELRULE, of rules of ours only. The kernel answers ENOENT when there is none. */
export function deleteRule(rule: SourceRule): NetlinkRequest {
  return ruleRequest('delete', RTM_DELRULE, 0, rule)
}

/** Reads an RTM_NEWRULE payload; undefined when it is no IP rule that leads to a table. */
export function decodeRule(payload: Buffer): RoutingRule | undefined {
  const family = familyFromNumber(payload[0] ?? 0)
  if (family === undefined || payload[7] !== toTable) return undefined
  const { source, priority, table, protocol } = decodeAttributes(ruleAttributes, payload.subarray(12))
  return {
    family,
    source: source === undefined ? undefined : { address: source, prefix: payload[2] ?? 0 },
    table: table ?? payload[4] ?? 0,
    priority: priority ?? 0,
    protocol: protocol ?? 0,
  }
}

/** The reverse of {@link decodeRule}, for fakes and requests. */
export function encodeRule({ family, source, table, priority, protocol }: RoutingRule): Buffer {
  const header = Buffer.alloc(12)
  header[0] = addressFamilyNumbers[family]
  header[2] = source?.prefix ?? 0
  header[7] = toTable
  return Buffer.concat([
    header,
    encodeAttributes(ruleAttributes, { source: source?.address, priority, table, protocol }),
  ])
}

/** Routing rules of one namespace. Throws NetlinkError. */
export class Rules {
  readonly #socket: NetlinkSocket

  constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  /** Those of both families. */
  async list(): Promise<RoutingRule[]> {
    const header = Buffer.alloc(12)
    header[0] = AF_UNSPEC
    const messages = await this.#socket.dump({ name: 'list rules', type: RTM_GETRULE, payload: header })
    return messages
      .filter(({ type }) => type === RTM_NEWRULE)
      .map(({ payload }) => decodeRule(payload))
      .filter((rule) => rule !== undefined)
  }
}

function ruleRequest(verb: string, type: number, flags: number, rule: SourceRule): NetlinkRequest {
  const { source, table } = rule
  const family = ipFamilyOf(source.address)
  return {
    name: `${verb} rule from ${formatCidr(source)} table ${table}`,
    type,
    flags,
    payload: encodeRule({ ...rule, family, protocol: fairleadProtocol }),
  }
}
