import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { messagesOf, readCapture, showMessage } from '../../test/fixtures/nftables/read-capture.ts'
import { encodeTransaction } from './encode-transaction.ts'
import { formatRule } from './format.ts'
import { nftMessages } from './nf-tables-messages.ts'
import type { Expression, MatchValue, NftSet, Statement } from './objects.ts'
import type { Change } from './transaction.ts'

/* Every kind of field and statement, against what nft sent for `fields.nft`. */

const folder = new URL('../../test/fixtures/nftables/', import.meta.url)

/** The sets of fields.nft, in its order. */
const sets: readonly NftSet[] = [
  { name: 'a4', key: ['ip saddr'], interval: true, comment: 'prefixes' },
  { name: 'a6', key: ['ip6 saddr'], interval: true },
  { name: 'b6', key: ['ip6 daddr', 'ip6 saddr'] },
  { name: 'c', key: ['meta nfproto', 'meta mark', 'iifname', 'oifname'] },
  { name: 'd', key: ['ct state', 'ct status', 'ct direction', 'fib daddr type', 'th sport', 'meta l4proto'] },
  { name: 'e', key: ['iifname'] },
  { name: 'f', key: ['fib daddr type'] },
  { name: 'g', key: ['ct state'] },
  { name: 'p', key: ['ip daddr', 'th dport', 'ip saddr'], interval: true },
  { name: 'l', key: ['meta l4proto'], comment: 'protocols' },
  { name: 'h', key: ['th dport'] },
  { name: 'n', key: ['meta mark'] },
  { name: 'o', key: ['meta nfproto'] },
  { name: 'q', key: [{ numgenRandom: 7 }] },
  { name: 'r', key: ['ct status'] },
  { name: 's', key: ['ct direction'] },
  {
    name: 'm6',
    key: ['ip6 daddr', 'meta l4proto', 'th dport', { numgenRandom: 65536 }],
    data: ['ip6 daddr', 'th dport'],
    comment: 'six',
  },
  { name: 'vm', key: ['ip daddr', 'th dport'], data: 'verdict' },
  { name: 'mm', key: ['ip daddr'], data: ['meta mark'] },
]

const is = (left: Expression, value: MatchValue): Statement => ({ kind: 'match', left, op: '==', value })
const isNot = (left: Expression, value: MatchValue): Statement => ({ kind: 'match', left, op: '!=', value })
const inSet = (set: string, ...key: Expression[]): Statement => ({ kind: 'in-set', key, set })
const notInSet = (set: string, ...key: Expression[]): Statement => ({ kind: 'in-set', key, set, negate: true })
const accept: Statement = { kind: 'accept' }
const drop: Statement = { kind: 'drop' }
const counter: Statement = { kind: 'counter' }
const jump: Statement = { kind: 'jump', chain: 'target' }
const tcpOrUdp: MatchValue = { anyOf: [6, 17] }

/** A line of the chain `rules`, and the same in objects. */
const rules: Record<string, readonly Statement[]> = {
  'ip saddr 10.0.0.0/8 counter accept comment "private"': [
    is('ip saddr', { address: '10.0.0.0', prefix: 8 }),
    counter,
    accept,
  ],
  'ip saddr 10.0.0.0/9 drop': [is('ip saddr', { address: '10.0.0.0', prefix: 9 }), drop],
  'ip saddr != 10.1.2.3 return': [isNot('ip saddr', { address: '10.1.2.3' }), { kind: 'return' }],
  'ip6 saddr fd00::/8 goto target': [
    is('ip6 saddr', { address: 'fd00::', prefix: 8 }),
    { kind: 'goto', chain: 'target' },
  ],
  'ip6 daddr fd00::1 jump target': [is('ip6 daddr', { address: 'fd00::1' }), jump],
  'ip6 daddr != fd00::/7 jump target': [isNot('ip6 daddr', { address: 'fd00::', prefix: 7 }), jump],
  'ip6 saddr . ip6 daddr @b6 accept': [inSet('b6', 'ip6 saddr', 'ip6 daddr'), accept],
  'ip daddr . th dport vmap @vm': [{ kind: 'vmap', key: ['ip daddr', 'th dport'], map: 'vm' }],
  'ip saddr @a4 ip daddr != @a4 accept': [inSet('a4', 'ip saddr'), notInSet('a4', 'ip daddr'), accept],
  'meta l4proto tcp ip saddr 10.0.0.1 th dport 80 accept': [
    is('meta l4proto', { number: 6 }),
    is('ip saddr', { address: '10.0.0.1' }),
    is('th dport', { number: 80 }),
    accept,
  ],
  'meta nfproto ipv4 ip saddr 10.0.0.1 accept': [
    is('meta nfproto', { number: 2 }),
    is('ip saddr', { address: '10.0.0.1' }),
    accept,
  ],
  'meta nfproto ipv6 accept': [is('meta nfproto', { number: 10 }), accept],
  'meta nfproto != ipv6 accept': [isNot('meta nfproto', { number: 10 }), accept],
  'meta mark 0x4000 accept': [is('meta mark', { number: 0x4000 }), accept],
  'meta mark != 0x4000 accept': [isNot('meta mark', { number: 0x4000 }), accept],
  'meta mark and 0x4000 != 0 accept': [is('meta mark', { bits: 0x4000 }), accept],
  'meta mark and 0xc000 == 0 accept': [isNot('meta mark', { bits: 0xc000 }), accept],
  'meta priority f1a0:2 accept': [is('meta priority', { number: 0xf1a00002 }), accept],
  'meta priority set f1a0:7': [{ kind: 'set-priority', to: 0xf1a00007 }],
  'meta priority set 0': [{ kind: 'set-priority', to: 0 }],
  'iifname "eth0" accept': [is('iifname', { name: 'eth0' }), accept],
  'iifname != "eth0" accept': [isNot('iifname', { name: 'eth0' }), accept],
  'iifname "veth*" accept': [is('iifname', { name: 'veth*' }), accept],
  'oifname != "veth*" accept': [isNot('oifname', { name: 'veth*' }), accept],
  'th sport 53 accept': [is('th sport', { number: 53 }), accept],
  'th dport != 80 accept': [isNot('th dport', { number: 80 }), accept],
  'ct state new accept': [is('ct state', { bits: 8 }), accept],
  'ct state established,related accept': [is('ct state', { bits: 6 }), accept],
  'ct state invalid drop': [is('ct state', { bits: 1 }), drop],
  'ct status dnat accept': [is('ct status', { bits: 0x20 }), accept],
  'ct direction original accept': [is('ct direction', { number: 0 }), accept],
  'ct direction reply accept': [is('ct direction', { number: 1 }), accept],
  'ct direction != reply accept': [isNot('ct direction', { number: 1 }), accept],
  'fib daddr type local accept': [is('fib daddr type', { number: 2 }), accept],
  'fib daddr type != local accept': [isNot('fib daddr type', { number: 2 }), accept],
  'meta l4proto { tcp, udp } accept': [is('meta l4proto', tcpOrUdp), accept],
  'meta l4proto != { tcp, udp } accept': [isNot('meta l4proto', tcpOrUdp), accept],
  'ip daddr . th dport . ip saddr @p accept': [inSet('p', 'ip daddr', 'th dport', 'ip saddr'), accept],
  'ip6 daddr != @a6 accept': [notInSet('a6', 'ip6 daddr'), accept],
  'meta l4proto { tcp, udp } dnat ip6 to ip6 daddr . meta l4proto . th dport . numgen random mod 2 map @m6': [
    is('meta l4proto', tcpOrUdp),
    {
      kind: 'dnat',
      family: 'ip6',
      to: { key: ['ip6 daddr', 'meta l4proto', 'th dport', { numgenRandom: 2 }], map: 'm6' },
    },
  ],
  'meta mark set ip daddr map @mm': [{ kind: 'set-mark', to: { key: ['ip daddr'], map: 'mm' } }],
  reject: [{ kind: 'reject' }],
}

const theirs = readCapture('fields.batch.hex')
const changes: Change[] = [
  ...sets.map((set): Change => ({ op: 'add-set', set })),
  ...Object.entries(rules).map(([text, statements]): Change => {
    const comment = /comment "(.*)"/.exec(text)?.[1]
    return { op: 'add-rule', chain: 'rules', rule: { statements, ...(comment !== undefined && { comment }) } }
  }),
]
const ours = messagesOf(encodeTransaction({ family: 'inet', table: 'lib', changes }, { firstSeq: 0 }).datagram)
const ofType = (messages: readonly Buffer[], type: number): Buffer[] =>
  messages.filter((message) => message.readUInt16LE(4) === type)

/** The rules of the file, in order; the first message is the rule of the chain `target`. */
const lines = readFileSync(new URL('fields.nft', folder), 'utf8')
  .split('chain rules {\n')[1]
  ?.split('\n  }')[0]
  ?.split('\n')
  .map((line) => line.trim())
const theirRules = ofType(theirs, nftMessages.newRule).slice(1)

// nft 1.0.6 keeps `typeof` for at most four fields, and of the six of set d only the first four.
const setRows = sets.map(({ name }, index) => ({ name, index })).filter(({ name }) => name !== 'd')

test.each(setRows)('encodeTransaction() describes set $name as nft does', ({ index }) => {
  const [mine, other] = [ours, theirs].map((all) => ofType(all, nftMessages.newSet)[index])
  expect(showMessage(mine)).toBe(showMessage(other))
})

test.each(Object.keys(rules).map((text, index) => ({ text, index })))(
  'encodeTransaction() writes `$text` as nft does',
  ({ text, index }) => {
    const mine = ofType(ours, nftMessages.newRule)[index]
    expect(showMessage(mine)).toBe(showMessage(theirRules[lines?.indexOf(text) ?? -1]))
  },
)

test('formatRule() prints rules in words that nft takes', () => {
  const printed = Object.entries(rules).map(([text, statements]) => {
    const comment = /comment "(.*)"/.exec(text)?.[1]
    return formatRule({ statements, ...(comment !== undefined && { comment }) })
  })
  expect(printed).toMatchInlineSnapshot(`
    [
      "ip saddr 10.0.0.0/8 counter accept comment "private"",
      "ip saddr 10.0.0.0/9 drop",
      "ip saddr != 10.1.2.3 return",
      "ip6 saddr fd00::/8 goto target",
      "ip6 daddr fd00::1 jump target",
      "ip6 daddr != fc00::/7 jump target",
      "ip6 saddr . ip6 daddr @b6 accept",
      "ip daddr . th dport vmap @vm",
      "ip saddr @a4 ip daddr != @a4 accept",
      "meta l4proto tcp ip saddr 10.0.0.1 th dport 80 accept",
      "meta nfproto ipv4 ip saddr 10.0.0.1 accept",
      "meta nfproto ipv6 accept",
      "meta nfproto != ipv6 accept",
      "meta mark 0x00004000 accept",
      "meta mark != 0x00004000 accept",
      "meta mark & 0x00004000 != 0x00000000 accept",
      "meta mark & 0x0000c000 == 0x00000000 accept",
      "meta priority f1a0:2 accept",
      "meta priority set f1a0:7",
      "meta priority set none",
      "iifname "eth0" accept",
      "iifname != "eth0" accept",
      "iifname "veth*" accept",
      "oifname != "veth*" accept",
      "th sport 53 accept",
      "th dport != 80 accept",
      "ct state new accept",
      "ct state established,related accept",
      "ct state invalid drop",
      "ct status dnat accept",
      "ct direction original accept",
      "ct direction reply accept",
      "ct direction != reply accept",
      "fib daddr type local accept",
      "fib daddr type != local accept",
      "meta l4proto { tcp, udp } accept",
      "meta l4proto != { tcp, udp } accept",
      "ip daddr . th dport . ip saddr @p accept",
      "ip6 daddr != @a6 accept",
      "meta l4proto { tcp, udp } dnat ip6 to ip6 daddr . meta l4proto . th dport . numgen random mod 2 map @m6",
      "meta mark set ip daddr map @mm",
      "reject",
    ]
  `)
})
