/*
 * The chain that Docker leaves to others. Docker gives FORWARD a policy of drop, and what a table of ours accepts cannot
 * overrule another table's drop: so rules for our bridges have to stand in Docker's own table, in the one chain that it
 * promises never to touch.
 */

/** Docker's chain for other people's rules, in table filter of iptables and ip6tables. */
export const dockerUserChain = 'DOCKER-USER'

/** How `iptables -S` prints our mark: the rules with it are ours. */
const mark = '-m comment --comment fairlead'

/** Words for iptables(8), without the program's name. */
export type IptablesWords = readonly string[]

/** Connections to Services, which are let through to wherever they lead. */
export interface ServicePackets {
  /** Ranges of cluster IPs: `10.96.0.0/12`. */
  readonly ranges: readonly string[]
  /** Those to node ports. */
  readonly nodePorts: boolean
}

/**
 * The rules that should stand in DOCKER-USER, as `iptables -S` prints them without `-A DOCKER-USER`. What goes to our
 * bridges is guarded by our own table, so it is let through. What our pods send is let through too, except to Docker's
 * bridges: whether a container's port is published is Docker's to say, in its rules after these. Pure.
 */
export function dockerUserRules(
  ours: readonly string[],
  dockers: readonly string[],
  services: ServicePackets = { ranges: [], nodePorts: false },
): string[] {
  // Before the rules that leave containers to Docker: who labelled one for a Service wants it reached by the Service.
  const translated = [
    ...services.ranges.map((range) => `--ctorigdst ${range}`),
    ...(services.nodePorts ? ['--ctorigdstport 30000:32767'] : []),
  ]
  return [
    ...translated.map((original) => `-m conntrack --ctstate DNAT ${original} ${mark} -j ACCEPT`),
    ...ours.flatMap((bridge) => [
      `-o ${bridge} ${mark} -j ACCEPT`,
      ...dockers.map((docker) => `-i ${bridge} -o ${docker} ${mark} -j RETURN`),
      `-i ${bridge} ${mark} -j ACCEPT`,
    ]),
  ]
}

/** Bridges that Docker has rules for, by `iptables -S`: those whose incoming packets its chains decide about. */
export function dockerBridges(listing: string): string[] {
  const found = listing.matchAll(/^-A (?:FORWARD|DOCKER(?!-USER)\S*) (?:\S.* )?-o (\S+) -j (?:DOCKER|DROP)$/gm)
  return [...new Set(Array.from(found, (match) => match[1] ?? ''))].toSorted()
}

/**
 * What to say to iptables, one command after another, so that the chain of this listing (`iptables -S`) has the wanted rules, in their
 * order, after all rules of other people and before Docker's closing RETURN. Empty when it is so, or when there is no such chain. Pure.
 */
export function diffDockerUser(listing: string, wanted: readonly string[]): IptablesWords[] {
  if (!listing.split('\n').includes(`-N ${dockerUserChain}`)) return []
  const rules = rulesOf(listing)
  const end = endOf(rules)
  const kept: string[] = []
  const extra = rules.filter((rule, index) => {
    if (!isOurs(rule)) return false
    // Rules of other people below one of ours would never be asked.
    const inPlace = rules.slice(index, end).every(isOurs) && index < end
    // Of equal rules, iptables deletes the first.
    const isKept = inPlace && wanted.includes(rule) && rules.lastIndexOf(rule) === index
    if (isKept) kept.push(rule)
    return !isKept
  })
  if (!isInOrder(kept, wanted)) extra.push(...kept.splice(0))
  const deletions = extra.map((rule): IptablesWords => ['-D', dockerUserChain, ...rule.split(' ')])
  const first = end - rules.slice(0, end).filter(isOurs).length + 1
  const insertions = wanted.flatMap((rule, index): IptablesWords[] =>
    kept.includes(rule) ? [] : [['-I', dockerUserChain, `${first + index}`, ...rule.split(' ')]],
  )
  return [...deletions, ...insertions]
}

function rulesOf(listing: string): string[] {
  const start = `-A ${dockerUserChain} `
  return listing
    .split('\n')
    .filter((line) => line.startsWith(start))
    .map((line) => line.slice(start.length))
}

/** Where Docker's closing RETURN stands; rules after it mean nothing. */
function endOf(rules: readonly string[]): number {
  const closing = rules.indexOf('-j RETURN')
  return closing === -1 ? rules.length : closing
}

function isOurs(rule: string): boolean {
  return ` ${rule} `.includes(` ${mark} `)
}

function isInOrder(kept: readonly string[], wanted: readonly string[]): boolean {
  const places = kept.map((rule) => wanted.indexOf(rule))
  return places.every((place, index) => index === 0 || place > (places[index - 1] ?? 0))
}
