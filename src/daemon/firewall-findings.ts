import { dockerUserChain } from '../bridge/docker-user.ts'
import type { ListedChain } from '../nftables/client.ts'
import type { NftFamily } from '../nftables/objects.ts'
import type { Finding } from './doctor.ts'

/** What can be seen of the firewalls of a machine without running their tools. */
export interface FirewallFacts {
  readonly chains: readonly ListedChain[]
  /** Tables of iptables-legacy and ip6tables-legacy, which nf_tables does not show. */
  readonly legacyTables: { readonly ip: readonly string[]; readonly ip6: readonly string[] }
  /** `net.bridge.bridge-nf-call-iptables`; undefined without br_netfilter. */
  readonly bridgeNetfilter: string | undefined
  /** Our bridge, for the hints. */
  readonly bridge: string
}

/** Our own tables begin so. */
const ownTables = /^fairlead-/
/** Tables that iptables-nft and ip6tables-nft make. */
const iptablesTables: ReadonlySet<string> = new Set(['filter', 'nat', 'mangle', 'raw', 'security'])

/**
 * What firewalls of other programs mean for packets of pods. In netfilter a drop in any chain wins, whatever we accept, so those
 * that refuse at the forward hook are named, each with what to do about it. Pure.
 */
export function firewallFindings(facts: FirewallFacts): Finding[] {
  const { chains, legacyTables, bridgeNetfilter } = facts
  const refusing = chains.filter(isRefusing)
  const forward = refusing.map((chain) => forwardFinding(chain, facts))
  const legacy = [...named('iptables-legacy', legacyTables.ip), ...named('ip6tables-legacy', legacyTables.ip6)]
  const byNft = chains.filter(({ family, table }) => isIptablesFamily(family) && iptablesTables.has(table))
  return [
    ...(forward.length > 0 ? forward : [ok('forward firewalls', 'no chain refuses what it does not know')]),
    ...legacyFindings(legacy),
    ...(legacy.length > 0 && byNft.length > 0 ? [mixFinding(legacy, byNft)] : []),
    ok('br_netfilter', bridgeNetfilterText(bridgeNetfilter)),
  ]
}

/** Packets of pods are routed, so what a chain of family bridge does is no obstacle. */
function isRefusing({ family, table, hook, policy, refusesAll }: ListedChain): boolean {
  const isForward = hook?.hook === 'forward' && hook.type === 'filter' && family !== 'bridge'
  return isForward && !ownTables.test(table) && (policy === 'drop' || refusesAll !== undefined)
}

function forwardFinding(chain: ListedChain, { chains, bridge }: FirewallFacts): Finding {
  const { family, table, name, policy, refusesAll } = chain
  const beside = chains.filter((other) => other.family === family && other.table === table)
  const what = policy === 'drop' ? 'policy drop' : `a rule that ${refusesAll}s everything`
  const found = { name: `forward ${family} ${table} ${name}`, needed: false }
  const iptables = family === 'ip6' ? 'ip6tables' : 'iptables'
  if (beside.some((other) => other.name === dockerUserChain)) {
    const detail = `${what}, Docker's: the daemon lets packets of its bridges through in chain ${dockerUserChain}`
    return { ...found, ok: true, detail: `${detail} (network.dockerUser)`, hint: undefined }
  }
  const refused = { ...found, ok: false }
  if (beside.some((other) => /^ufw6?-/.test(other.name))) {
    const hint = `ufw route allow in on ${bridge} && ufw route allow out on ${bridge}`
    return { ...refused, detail: `${what}, ufw's: it stops packets of pods`, hint }
  }
  if (table === 'firewalld') {
    const hint = `firewall-cmd --permanent --zone=trusted --add-interface=${bridge} && firewall-cmd --reload`
    return { ...refused, detail: `${what}, firewalld's: it stops packets of pods`, hint }
  }
  const detail = `${what}: it stops packets of pods`
  if (isIptablesFamily(family) && table === 'filter' && name === 'FORWARD') {
    const accept = (flag: string): string => `${iptables} -I FORWARD ${flag} ${bridge} -j ACCEPT`
    return { ...refused, detail, hint: `${accept('-i')} && ${accept('-o')}` }
  }
  const accept = (field: string): string => `nft insert rule ${family} ${table} ${name} ${field} ${bridge} accept`
  return { ...refused, detail, hint: `${accept('iifname')} && ${accept('oifname')}` }
}

/** Their rules can only be read by a program of theirs, and the doctor runs none. */
function legacyFindings(legacy: readonly { program: string; tables: readonly string[] }[]): Finding[] {
  return legacy
    .filter(({ tables }) => tables.includes('filter'))
    .map(({ program }) => ({
      name: program,
      needed: false,
      ok: false,
      detail: 'its table filter is in use, and nf_tables does not show what it refuses',
      hint: `look at "${program} -S FORWARD": a policy of DROP stops packets of pods (Docker's is seen to by the daemon)`,
    }))
}

function mixFinding(
  legacy: readonly { program: string; tables: readonly string[] }[],
  byNft: readonly ListedChain[],
): Finding {
  const old = legacy.map(({ program, tables }) => `${program} (${tables.join(', ')})`).join(', ')
  const tables = [...new Set(byNft.map(({ family, table }) => `${family} ${table}`))].join(', ')
  return {
    name: 'iptables mix',
    needed: false,
    ok: false,
    detail: `rules of ${old} and of iptables-nft (${tables}): all apply, and each program shows its own alone`,
    hint: 'choose one (update-alternatives --config iptables), restart what writes rules, and flush the other',
  }
}

function bridgeNetfilterText(value: string | undefined): string {
  if (value === undefined) return 'not loaded'
  return value === '0'
    ? 'loaded, and off for iptables'
    : 'on: iptables sees packets inside bridges, too (fairlead works with it and without)'
}

function isIptablesFamily(family: NftFamily): boolean {
  return family === 'ip' || family === 'ip6'
}

function named(program: string, tables: readonly string[]): { program: string; tables: readonly string[] }[] {
  return tables.length > 0 ? [{ program, tables }] : []
}

function ok(name: string, detail: string): Finding {
  return { name, needed: false, ok: true, detail, hint: undefined }
}
