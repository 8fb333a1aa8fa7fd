import { protocolNumbers } from '../net/protocol.ts'
import { ipFamilies, ipFamilyOf, ipFromBytes, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { cidrFamily, type Cidr } from '../net/cidr.ts'
import { addressRange, registerBytes } from '../nftables/keys.ts'
import {
  ctStateBits,
  fibTypeLocal,
  nfproto,
  type Chain,
  type Elements,
  type NftSet,
  type RegisterBytes,
  type Rule,
  type Statement,
  type TableState,
} from '../nftables/objects.ts'
import type { CompiledServices, ProxySettings } from '../proxy/compile-services.ts'
import { frontendKey, type Frontend, type ServiceFrontends } from '../proxy/frontends.ts'
import { servedSlots, type IpvsContext } from './ipvs-servers.ts'
import { placedKey, placeFrontends } from './placed-frontends.ts'
import { commonBits, secondView } from './second-views.ts'
import { masqueradeMark } from '../proxy-nftables/nftables-classes.ts'
import { widestNetworks } from '../proxy-nftables/nftables-layout.ts'
import { addressFields, vipKey } from '../proxy-nftables/nftables-sets.ts'

/** The table of mode ipvs: what IPVS cannot do itself. */
export const ipvsTable = 'fairlead-ipvs'

/** What the table is made of. */
export interface IpvsTableInput {
  readonly services: Pick<CompiledServices, 'settings' | 'serviceCIDRs'>
  readonly frontends: Iterable<ServiceElements>
  /** Addresses that are on our device: nothing but frontends answers there. */
  readonly vips: Iterable<IpAddress>
}

/** Sets of one family. */
function familySets(f: IpFamily) {
  const { source, destination } = addressFields[f]
  const vip = vipKey(f)
  return {
    localPods: { name: `local-pods-${f}`, key: [source], interval: true },
    serviceRanges: { name: `service-ranges-${f}`, key: [destination], interval: true },
    vips: { name: `vips-${f}`, key: [destination] },
    frontends: { name: `frontends-${f}`, key: vip },
    refused: { name: `refused-${f}`, key: vip },
    dropped: { name: `dropped-${f}`, key: vip },
    droppedOutside: { name: `dropped-outside-${f}`, key: vip },
    guarded: { name: `guarded-${f}`, key: vip },
    sourceRanges: { name: `source-ranges-${f}`, key: [...vip, source], interval: true },
    masquerade: { name: `masquerade-${f}`, key: vip },
    masqueradeOthers: { name: `masquerade-others-${f}`, key: vip },
    hairpin: { name: `hairpin-${f}`, key: [source, destination] },
    marks: { name: `marks-${f}`, key: vip, data: ['meta mark'] },
  } as const satisfies Record<string, NftSet>
}

/** The sets of mode ipvs, by family. `frontends` also tells which virtual servers are ours. */
export const ipvsSets = { 4: familySets(4), 6: familySets(6) } as const

/** The addresses that a table says are ours. */
export function vipsOf(table: Pick<TableState, 'elements'> | undefined): ReadonlySet<IpAddress> {
  const keys = ipFamilies.flatMap((family) => [...(table?.elements.get(ipvsSets[family].vips.name)?.keys() ?? [])])
  return new Set(keys.map((key) => ipFromBytes(Buffer.from(key, 'latin1'))))
}

type Role = keyof ReturnType<typeof familySets>

/** The whole table. Pure. */
export function compileIpvsTable(input: IpvsTableInput): TableState {
  const { settings } = input.services
  return {
    family: 'inet',
    name: ipvsTable,
    chains: [
      ...ipFamilies.map((family) => markBySource(family, settings)),
      ...ipFamilies.map((family) => arriving(family, settings)),
      ...ipFamilies.map((family) => leaving(family, settings)),
      // Before IPVS looks at packets for this machine (NF_IP_PRI_NAT_SRC - 1).
      { name: 'input', hook: { type: 'filter', hook: 'input', priority: -10 }, rules: byFamily('services') },
      unserved(),
      // After conntrack (-200) and before IPVS looks at the machine's own packets (NF_IP_PRI_NAT_DST + 2).
      { name: 'output', hook: { type: 'filter', hook: 'output', priority: -150 }, rules: byFamily('node-services') },
      { name: 'forward', hook: { type: 'filter', hook: 'forward', priority: -10 }, rules: unusedAddresses() },
      { name: 'postrouting', hook: { type: 'nat', hook: 'postrouting', priority: 100 }, rules: postrouting(settings) },
    ],
    sets: ipFamilies.flatMap((family) => Object.values<NftSet>(ipvsSets[family])),
    elements: compileElements(input),
  }
}

const known: Statement = {
  kind: 'match',
  left: 'ct state',
  op: '==',
  value: { bits: ctStateBits.established | ctStateBits.related },
}

function ofFamily(family: IpFamily): Statement {
  return {
    kind: 'match',
    left: 'meta nfproto',
    op: '==',
    value: { number: family === 4 ? nfproto.ipv4 : nfproto.ipv6 },
  }
}

function byFamily(prefix: string): Rule[] {
  return ipFamilies.map((family) => ({
    statements: [ofFamily(family), { kind: 'goto', chain: `${prefix}-${family}` }],
  }))
}

function at(family: IpFamily, role: Role): Statement {
  const { name, key } = ipvsSets[family][role]
  return { kind: 'in-set', key, set: name }
}

/** Source ranges, and verdicts that send no packet to an endpoint. */
function verdicts(family: IpFamily): Rule[] {
  const s = ipvsSets[family]
  return [
    { statements: [known, { kind: 'return' }] },
    {
      statements: [
        at(family, 'guarded'),
        { kind: 'in-set', key: s.sourceRanges.key, set: s.sourceRanges.name, negate: true },
        { kind: 'drop' },
      ],
    },
    { statements: [at(family, 'refused'), { kind: 'reject' }] },
    { statements: [at(family, 'dropped'), { kind: 'drop' }] },
  ]
}

/** Our addresses are the machine's: without this, its own ports would answer there (kubernetes #72236). */
function nothingElse(family: IpFamily): Rule[] {
  return [
    { statements: [at(family, 'frontends'), { kind: 'return' }] },
    { statements: [at(family, 'vips'), { kind: 'reject' }] },
  ]
}

const isTcp: Statement = {
  kind: 'match',
  left: 'meta l4proto',
  op: '==',
  value: { number: protocolNumbers.tcp },
}

/** The chain after IPVS, which takes or translates what it serves. */
export const unservedChain = 'unserved'

/**
 * What IPVS has left alone although a frontend is there: its virtual server comes in a moment, has just gone, or was taken away by
 * others. The machine's own ports do not answer in its place. TCP is reset, as they would do: conntrack may take a packet in the
 * middle of a connection that IPVS has ended for a new one.
 */
function unserved(): Chain {
  return {
    name: unservedChain,
    // After NF_IP_PRI_NAT_SRC - 1.
    hook: { type: 'filter', hook: 'input', priority: 110 },
    rules: [
      { statements: [known, { kind: 'return' }] },
      ...ipFamilies.flatMap((family): Rule[] => [
        { statements: [ofFamily(family), isTcp, at(family, 'vips'), { kind: 'reject', with: 'tcp-reset' }] },
        { statements: [ofFamily(family), at(family, 'vips'), { kind: 'reject' }] },
      ]),
    ],
  }
}

/** What comes in from pods and others. */
function arriving(family: IpFamily, settings: ProxySettings): Chain {
  const mark: Statement = { kind: 'mark-or', bits: masqueradeMark(settings) }
  const { marks } = ipvsSets[family]
  return {
    name: `services-${family}`,
    rules: [
      ...verdicts(family),
      { statements: [at(family, 'droppedOutside'), fromPod(family, settings, true), { kind: 'drop' }] },
      { statements: [fromPod(family, settings, true), { kind: 'set-mark', to: { key: marks.key, map: marks.name } }] },
      { statements: [at(family, 'masquerade'), mark] },
      { statements: [at(family, 'masqueradeOthers'), { kind: 'jump', chain: `mark-by-source-${family}` }] },
      ...nothingElse(family),
    ],
  }
}

/**
 * What the node's own processes send. A frontend's address is local, so the kernel gives such connections that address as their
 * source: all are masqueraded.
 */
function leaving(family: IpFamily, settings: ProxySettings): Chain {
  return {
    name: `node-services-${family}`,
    rules: [
      ...verdicts(family),
      { statements: [at(family, 'frontends'), { kind: 'mark-or', bits: masqueradeMark(settings) }] },
      ...nothingElse(family),
      unused(family),
    ],
  }
}

/** Addresses of the Service ranges that no Service has. */
function unused(family: IpFamily): Rule {
  const local: Statement = { kind: 'match', left: 'fib daddr type', op: '!=', value: { number: fibTypeLocal } }
  return { statements: [ofFamily(family), at(family, 'serviceRanges'), local, { kind: 'drop' }] }
}

function unusedAddresses(): Rule[] {
  return ipFamilies.map(unused)
}

function markBySource(family: IpFamily, settings: ProxySettings): Chain {
  const mark: Statement = { kind: 'mark-or', bits: masqueradeMark(settings) }
  const canTell = settings.localInterface ?? settings.localPods.find((cidr) => cidrFamily(cidr) === family)
  const rules: Rule[] = []
  if (settings.masqueradeAll) rules.push({ statements: [mark] })
  else if (canTell) rules.push({ statements: [fromPod(family, settings, true), mark] })
  return { name: `mark-by-source-${family}`, rules }
}

function fromPod(family: IpFamily, { localInterface }: ProxySettings, not: boolean): Statement {
  if (!localInterface) {
    const { name, key } = ipvsSets[family].localPods
    return { kind: 'in-set', key, set: name, negate: not }
  }
  const name = localInterface.prefix ? `${localInterface.name}*` : localInterface.name
  return { kind: 'match', left: 'iifname', op: not ? '!=' : '==', value: { name } }
}

function postrouting(settings: ProxySettings): Rule[] {
  const bits = masqueradeMark(settings)
  return [
    // IPVS has read it: nobody else is to.
    {
      statements: [
        { kind: 'match', left: 'meta mark', op: '==', value: commonBits(bits) },
        { kind: 'set-mark', to: 0 },
      ],
    },
    {
      statements: [
        { kind: 'match', left: 'meta mark', op: '==', value: { bits } },
        { kind: 'mark-xor', bits },
        { kind: 'masquerade' },
      ],
    },
    ...ipFamilies.map((family): Rule => ({
      statements: [ofFamily(family), at(family, 'hairpin'), { kind: 'masquerade' }],
    })),
  ]
}

function compileElements({ services, frontends, vips }: IpvsTableInput): ReadonlyMap<string, Elements> {
  const elements = new Map<string, Map<RegisterBytes, string>>()
  const put = (family: IpFamily, role: Role, key: RegisterBytes, data = ''): void => {
    elements.get(ipvsSets[family][role].name)?.set(key, data)
  }
  for (const family of ipFamilies) {
    for (const { name } of Object.values<NftSet>(ipvsSets[family])) elements.set(name, new Map())
    const networks = (role: Role, cidrs: readonly Cidr[]): void => {
      const own = cidrs.filter((cidr) => cidrFamily(cidr) === family)
      for (const [first, last] of widestNetworks(own).map(addressRange)) put(family, role, first, last)
    }
    networks('localPods', services.settings.localPods)
    networks('serviceRanges', services.serviceCIDRs)
  }
  for (const ip of vips) put(ipFamilyOf(ip), 'vips', registerBytes({ ip }))
  const later: ServiceElements[number][] = []
  const taken = { 4: new Set<RegisterBytes>(), 6: new Set<RegisterBytes>() }
  const take = ({ family, key, elements }: ServiceElements[number]): void => {
    if (taken[family].has(key)) return
    taken[family].add(key)
    for (const { role, key, data } of elements) put(family, role, key, data)
  }
  // As with virtual servers: an address of its own comes before a node port.
  for (const service of frontends) {
    for (const one of service) {
      if (one.atNode) later.push(one)
      else take(one)
    }
  }
  for (const one of later) take(one)
  return elements
}

/** The elements of one Service, by its frontends at each of their addresses. */
export type ServiceElements = readonly {
  readonly family: IpFamily
  readonly key: RegisterBytes
  /** A node port. */
  readonly atNode: boolean
  readonly elements: readonly { readonly role: Role; readonly key: RegisterBytes; readonly data: string }[]
}[]

/** Compiles one Service. `marks`: see second-views.ts. Pure. */
export function serviceElements(
  service: ServiceFrontends,
  { nodeAddresses, marks }: Pick<IpvsContext, 'nodeAddresses' | 'marks'>,
): ServiceElements {
  return [...placeFrontends(service, nodeAddresses)].map((placed) => {
    const { frontend } = placed
    const key = placedKey(placed)
    const elements: { role: Role; key: RegisterBytes; data: string }[] = []
    const mark = marks.get(frontendKey(frontend))
    frontendElements(frontend, { key, mark }, (role, more, data = '') => elements.push({ role, key: more, data }))
    return { family: frontend.family, key, atNode: frontend.kind === 'node-port', elements }
  })
}

function frontendElements(
  frontend: Frontend,
  { key, mark }: { readonly key: RegisterBytes; readonly mark: number | undefined },
  put: (role: Role, key: RegisterBytes, data?: string) => unknown,
): void {
  put('frontends', key)
  const { verdict, outside, sourceRanges } = frontend
  if (sourceRanges) {
    put('guarded', key)
    for (const [first, last] of widestNetworks(sourceRanges).map(addressRange))
      put('sourceRanges', key + first, key + last)
  }
  const slots = servedSlots(frontend, { apart: mark !== undefined })
  // It also says whose the virtual server of the mark is, where nobody is given the mark.
  if (mark !== undefined) put('marks', key, registerBytes({ number: mark }))
  if (!slots) {
    put(verdict.kind === 'drop' ? 'dropped' : 'refused', key)
    return
  }
  if (outside?.kind === 'drop') put('droppedOutside', key)
  if (frontend.masquerade === 'always') put('masquerade', key)
  if (frontend.masquerade === 'unless-pod') put('masqueradeOthers', key)
  for (const { ip } of [...slots, ...(secondView(frontend) ?? [])]) {
    const bytes = registerBytes({ ip })
    put('hairpin', bytes + bytes)
  }
}
