import type { AttributeTable } from '../netlink/attributes.ts'
import type { ChainHook, NftFamily } from './objects.ts'

/* Message types, attributes and constants of include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h. */

/** Message types with the subsystem (NFNL_SUBSYS_NFTABLES) in the high byte. */
export const nftMessages = {
  newTable: 0xa00,
  getTable: 0xa01,
  deleteTable: 0xa02,
  newChain: 0xa03,
  getChain: 0xa04,
  deleteChain: 0xa05,
  newRule: 0xa06,
  getRule: 0xa07,
  deleteRule: 0xa08,
  newSet: 0xa09,
  getSet: 0xa0a,
  deleteSet: 0xa0b,
  newElements: 0xa0c,
  getElements: 0xa0d,
  deleteElements: 0xa0e,
  newGeneration: 0xa0f,
  getGeneration: 0xa10,
} as const

export const NFNL_MSG_BATCH_BEGIN = 0x10
export const NFNL_MSG_BATCH_END = 0x11
/** Multicast group NFNLGRP_NFTABLES. */
export const NFNLGRP_NFTABLES = 7
export const NFNL_SUBSYS_NFTABLES = 10

/** NFPROTO_*, the first byte of struct nfgenmsg. */
export const familyNumbers = { inet: 1, ip: 2, bridge: 7, ip6: 10 } as const satisfies Record<NftFamily, number>

/** NF_INET_*_HOOK */
export const hookNumbers = {
  prerouting: 0,
  input: 1,
  forward: 2,
  output: 3,
  postrouting: 4,
} as const satisfies Record<ChainHook['hook'], number>

/** NFT_SET_* */
export const setFlags = {
  anonymous: 1,
  constant: 2,
  interval: 4,
  map: 8,
  timeout: 0x10,
  eval: 0x20,
  concat: 0x80,
} as const
/** NFT_SET_ELEM_INTERVAL_END */
export const elementIntervalEnd = 1
/** NFT_DATA_VERDICT */
export const verdictType = 0xffff_ff00

/** NFT_JUMP and friends, NF_ACCEPT and NF_DROP, as unsigned 32-bit numbers. */
export const verdictCodes = {
  drop: 0,
  accept: 1,
  return: 0xffff_fffb,
  goto: 0xffff_fffc,
  jump: 0xffff_fffd,
} as const

export const tableAttributes = {
  name: { id: 1, type: 'string' },
  flags: { id: 2, type: 'u32be' },
  userData: { id: 6, type: 'bytes' },
} as const satisfies AttributeTable

export const chainAttributes = {
  table: { id: 1, type: 'string' },
  name: { id: 3, type: 'string' },
  type: { id: 7, type: 'string' },
  policy: { id: 5, type: 'u32be' },
  hook: { id: 4, type: 'nest', of: { number: { id: 1, type: 'u32be' }, priority: { id: 2, type: 'u32be' } } },
} as const satisfies AttributeTable

/** Expressions (id 4) are written apart: each has a table of its own. */
export const ruleAttributes = {
  table: { id: 1, type: 'string' },
  chain: { id: 2, type: 'string' },
} as const satisfies AttributeTable

/** A rule's expressions, as far as {@link readChains} looks into them. */
export const listedRuleAttributes = {
  table: { id: 1, type: 'string' },
  chain: { id: 2, type: 'string' },
  expressions: {
    id: 4,
    type: 'list',
    child: 1,
    of: { name: { id: 1, type: 'string' }, data: { id: 2, type: 'bytes' } },
  },
} as const satisfies AttributeTable

/** struct xt_target as nft_compat gives it: iptables-nft's REJECT is one. */
export const compatTargetAttributes = { name: { id: 1, type: 'string' } } as const satisfies AttributeTable

export const NFTA_RULE_EXPRESSIONS = 4
export const NFTA_RULE_USERDATA = 7
export const NFTA_LIST_ELEM = 1
export const NFTA_EXPR_NAME = 1
export const NFTA_EXPR_DATA = 2

export const setAttributes = {
  table: { id: 1, type: 'string' },
  name: { id: 2, type: 'string' },
  flags: { id: 3, type: 'u32be' },
  keyType: { id: 4, type: 'u32be' },
  keyLength: { id: 5, type: 'u32be' },
  dataType: { id: 6, type: 'u32be' },
  dataLength: { id: 7, type: 'u32be' },
  id: { id: 10, type: 'u32be' },
  description: {
    id: 9,
    type: 'nest',
    of: {
      size: { id: 1, type: 'u32be' },
      concat: { id: 2, type: 'list', child: 1, of: { length: { id: 1, type: 'u32be' } } },
    },
  },
  userData: { id: 13, type: 'bytes' },
  /** How many elements there are, ranges counted once. Kernel 6.16 and later. */
  count: { id: 20, type: 'u32be' },
} as const satisfies AttributeTable

/** The elements (id 3) follow, written and read by hand: there are hundreds of thousands. */
export const elementListAttributes = {
  table: { id: 1, type: 'string' },
  set: { id: 2, type: 'string' },
  setId: { id: 4, type: 'u32be' },
} as const satisfies AttributeTable

export const NFTA_SET_ELEM_LIST_ELEMENTS = 3
export const NFTA_SET_ELEM_KEY = 1
export const NFTA_SET_ELEM_DATA = 2
export const NFTA_SET_ELEM_FLAGS = 3
export const NFTA_SET_ELEM_KEY_END = 10
export const NFTA_DATA_VALUE = 1
export const NFTA_DATA_VERDICT = 2
export const NFTA_VERDICT_CODE = 1
export const NFTA_VERDICT_CHAIN = 2

export const batchAttributes = { generation: { id: 1, type: 'u32be' } } as const satisfies AttributeTable

export const generationAttributes = {
  id: { id: 1, type: 'u32be' },
  processId: { id: 2, type: 'u32be' },
  processName: { id: 3, type: 'string' },
} as const satisfies AttributeTable

const value = { value: { id: 1, type: 'bytes' } } as const satisfies AttributeTable

/** Attributes of each expression, in the order in which nft writes them. */
export const expressionAttributes = {
  meta: {
    key: { id: 2, type: 'u32be' },
    dreg: { id: 1, type: 'u32be' },
    sreg: { id: 3, type: 'u32be' },
  },
  payload: {
    dreg: { id: 1, type: 'u32be' },
    base: { id: 2, type: 'u32be' },
    offset: { id: 3, type: 'u32be' },
    length: { id: 4, type: 'u32be' },
  },
  ct: { key: { id: 2, type: 'u32be' }, dreg: { id: 1, type: 'u32be' } },
  fib: {
    flags: { id: 3, type: 'u32be' },
    result: { id: 2, type: 'u32be' },
    dreg: { id: 1, type: 'u32be' },
  },
  numgen: {
    dreg: { id: 1, type: 'u32be' },
    modulus: { id: 2, type: 'u32be' },
    type: { id: 3, type: 'u32be' },
    offset: { id: 4, type: 'u32be' },
  },
  hash: {
    sreg: { id: 1, type: 'u32be' },
    dreg: { id: 2, type: 'u32be' },
    length: { id: 3, type: 'u32be' },
    modulus: { id: 4, type: 'u32be' },
    seed: { id: 5, type: 'u32be' },
    offset: { id: 6, type: 'u32be' },
    type: { id: 7, type: 'u32be' },
  },
  dynset: {
    keyRegister: { id: 4, type: 'u32be' },
    dataRegister: { id: 5, type: 'u32be' },
    operation: { id: 3, type: 'u32be' },
    timeout: { id: 6, type: 'u64be' },
    set: { id: 1, type: 'string' },
    setId: { id: 2, type: 'u32be' },
  },
  cmp: {
    sreg: { id: 1, type: 'u32be' },
    op: { id: 2, type: 'u32be' },
    data: { id: 3, type: 'nest', of: value },
  },
  bitwise: {
    sreg: { id: 1, type: 'u32be' },
    dreg: { id: 2, type: 'u32be' },
    op: { id: 6, type: 'u32be' },
    length: { id: 3, type: 'u32be' },
    mask: { id: 4, type: 'nest', of: value },
    xor: { id: 5, type: 'nest', of: value },
  },
  lookup: {
    sreg: { id: 2, type: 'u32be' },
    dreg: { id: 3, type: 'u32be' },
    set: { id: 1, type: 'string' },
    setId: { id: 4, type: 'u32be' },
    flags: { id: 5, type: 'u32be' },
  },
  immediate: {
    dreg: { id: 1, type: 'u32be' },
    data: {
      id: 2,
      type: 'nest',
      of: {
        value: { id: 1, type: 'bytes' },
        verdict: {
          id: 2,
          type: 'nest',
          of: { code: { id: 1, type: 'u32be' }, chain: { id: 2, type: 'string' } },
        },
      },
    },
  },
  nat: {
    type: { id: 1, type: 'u32be' },
    family: { id: 2, type: 'u32be' },
    addressRegister: { id: 3, type: 'u32be' },
    portRegister: { id: 5, type: 'u32be' },
  },
  masq: { flags: { id: 1, type: 'u32be' } },
  reject: { type: { id: 1, type: 'u32be' }, code: { id: 2, type: 'u8' } },
  counter: {},
} as const satisfies Record<string, AttributeTable>
