import { describe, expect, test } from 'vitest'
import type { ListedChain } from '../nftables/client.ts'
import { firewallFindings, type FirewallFacts } from './firewall-findings.ts'

const forward: ListedChain = {
  family: 'ip',
  table: 'filter',
  name: 'FORWARD',
  hook: { type: 'filter', hook: 'forward', priority: 0 },
  policy: 'drop',
  refusesAll: undefined,
}
const plain = (name: string): ListedChain => ({ ...forward, name, hook: undefined, policy: undefined })
const machine: FirewallFacts = {
  chains: [],
  legacyTables: { ip: [], ip6: [] },
  bridgeNetfilter: undefined,
  bridge: 'fl0',
}

describe('firewallFindings()', () => {
  test.each<{ name: string; chains: readonly ListedChain[]; ok: boolean; says: RegExp }>([
    { name: 'nothing on an empty machine', chains: [], ok: true, says: /^forward firewalls: no chain refuses/ },
    {
      name: 'nothing where FORWARD accepts',
      chains: [{ ...forward, policy: 'accept' }],
      ok: true,
      says: /^forward firewalls: no chain refuses/,
    },
    {
      name: 'nothing in our own table',
      chains: [{ ...forward, table: 'fairlead-bridge' }],
      ok: true,
      says: /no chain/,
    },
    {
      name: 'nothing at another hook',
      chains: [{ ...forward, hook: { type: 'filter', hook: 'input', priority: 0 } }],
      ok: true,
      says: /no chain/,
    },
    { name: 'nothing inside of bridges', chains: [{ ...forward, family: 'bridge' }], ok: true, says: /no chain/ },
    {
      name: "Docker's policy, as one that is seen to",
      chains: [forward, plain('DOCKER-USER')],
      ok: true,
      says: /^forward ip filter FORWARD: policy drop, Docker's: .*DOCKER-USER \(network\.dockerUser\)$/,
    },
    {
      name: "a policy beside another family's Docker",
      chains: [{ ...forward, family: 'ip6' }, plain('DOCKER-USER')],
      ok: false,
      says: /-> ip6tables -I FORWARD -i fl0 -j ACCEPT && ip6tables -I FORWARD -o fl0 -j ACCEPT$/,
    },
    {
      name: "ufw's policy",
      chains: [forward, plain('ufw-before-forward')],
      ok: false,
      says: /ufw's: .* -> ufw route allow in on fl0 && ufw route allow out on fl0$/,
    },
    {
      name: "firewalld's last rule",
      chains: [{ ...forward, family: 'inet', table: 'firewalld', policy: 'accept', refusesAll: 'reject' }],
      ok: false,
      says: /a rule that rejects everything, firewalld's: .* -> firewall-cmd .*--zone=trusted --add-interface=fl0/,
    },
    {
      name: 'a policy of somebody',
      chains: [{ ...forward, family: 'inet', table: 'fw', name: 'middle' }],
      ok: false,
      says: /^forward inet fw middle: policy drop: .* -> nft insert rule inet fw middle iifname fl0 accept && nft insert/,
    },
  ])('firewallFindings() reports $name', ({ chains, ok, says }) => {
    const [first] = firewallFindings({ ...machine, chains })
    expect(first).toMatchObject({ ok, needed: false })
    expect(`${first?.name}: ${first?.detail}${first?.hint === undefined ? '' : ` -> ${first.hint}`}`).toMatch(says)
  })

  test('firewallFindings() reports iptables-legacy, and a mix with iptables-nft', () => {
    const legacyTables = { ip: ['nat', 'filter'], ip6: [] }
    const names = (facts: Partial<FirewallFacts>): string[] =>
      firewallFindings({ ...machine, ...facts })
        .filter(({ ok }) => !ok)
        .map(({ name }) => name)
    expect(names({ legacyTables })).toEqual(['iptables-legacy'])
    expect(names({ legacyTables, chains: [{ ...forward, policy: 'accept' }] })).toEqual([
      'iptables-legacy',
      'iptables mix',
    ])
    expect(names({ legacyTables, chains: [{ ...forward, table: 'fw', policy: 'accept' }] })).toEqual([
      'iptables-legacy',
    ])
  })

  test.each([
    [undefined, 'not loaded'],
    ['0', 'loaded, and off for iptables'],
    ['1', expect.stringContaining('on: ') as string],
  ])('firewallFindings() says how br_netfilter is with %s', (bridgeNetfilter, detail) => {
    const findings = firewallFindings({ ...machine, bridgeNetfilter })
    expect(findings.find(({ name }) => name === 'br_netfilter')).toMatchObject({ ok: true, detail })
  })
})
