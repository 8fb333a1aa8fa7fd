import { join } from 'node:path'
import type { Clock, Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { BridgeKernel } from './kernel.ts'
import type { Network } from './network.ts'
import { bridgeSysctls, planSysctls, type SysctlPlan } from './plan.ts'
import { readStateFile, removeStateFile, writeStateFile } from './state-file.ts'
import { writeSysctls } from './write-sysctls.ts'

/** Matches what {@link planSysctls} asks for IPv6. */
const ipv6Forwarding = 'net/ipv6/conf/all/forwarding'

/** Where the host's own values are kept while ours are set. */
interface ForwardingContext {
  readonly kernel: BridgeKernel
  readonly log: Log
  readonly stateDir: string
  /** Values of an older boot mean nothing. */
  readonly bootId: string
}

interface ChangedSysctl {
  readonly path: string
  readonly before: string
  readonly set: string
}

/**
 * Makes the host a router, if it is none, and remembers what it was for {@link restoreForwarding}.
 *
 * A host that forwards IPv6 stops listening to router advertisements where accept_ra is 1 (Documentation/networking/
 * ip-sysctl.rst), and so may lose its own default route; where it listened, accept_ra becomes 2, which means "also when
 * forwarding". Throws SysctlError.
 */
export async function enableForwarding(sysctls: readonly SysctlPlan[], context: ForwardingContext): Promise<void> {
  const { kernel, log } = context
  const wanted = [...(await routerAdvertisements(sysctls, kernel)), ...sysctls]
  const changes = wanted.flatMap(({ path, value }): ChangedSysctl[] => {
    const before = kernel.readSysctl(path)
    return before === undefined || before === value ? [] : [{ path, before, set: value }]
  })
  if (changes.length === 0) return
  // Written first: a daemon that dies in between leaves values that are restored to what they are.
  const known = readChanges(context) ?? []
  const paths = new Set(known.map(({ path }) => path))
  writeChanges([...known, ...changes.filter(({ path }) => !paths.has(path))], context)
  for (const { path, value } of writeSysctls(wanted, kernel)) {
    log.info({ sysctl: path, value }, `Set ${path} to ${value}: this host is the router of its pods`)
  }
}

/** How often {@link followSysctls} looks, ms; the kernel tells nobody of these settings. */
const lookInterval = 1000

/** Bridges that one look is about, for each costs five small files of /proc (40 µs): with more of them, they take turns. */
const bridgesPerLook = 50

/**
 * Sets what another program changed back (`sysctl --system`, a firewall), until disposed: that this host forwards, and the
 * settings of each bridge, of which `route_localnet` is what publications at 127.0.0.1 need.
 */
export function followSysctls(
  networks: () => readonly Network[],
  context: ForwardingContext & { readonly clock: Clock },
): Disposable {
  const { kernel, log, clock } = context
  let turn = 0
  const isOff = ({ path, value }: SysctlPlan): boolean => ![undefined, value].includes(kernel.readSysctl(path))
  const look = async (): Promise<void> => {
    const all = networks()
    const router = planSysctls(all)
    if (router.some(isOff)) {
      log.warn({ sysctls: router.filter(isOff) }, 'Repaired what another program changed: settings of a router')
      await enableForwarding(router, context)
    }
    if (turn >= all.length) turn = 0
    for (const { name, bridge, ...network } of all.slice(turn, turn + bridgesPerLook)) {
      const changed = writeSysctls(bridgeSysctls({ bridge, subnets: network.subnets }), kernel)
      if (changed.length === 0) continue
      log.warn({ network: name, sysctls: changed }, `Repaired what another program changed: settings of ${bridge}`)
    }
    turn += bridgesPerLook
  }
  let timer: Timer | undefined
  let stopped = false
  const next = (): void => {
    if (stopped) return
    timer = clock.after(lookInterval, () => {
      look()
        .catch((error: unknown) => log.error({ err: error }, 'Cannot keep the settings of this host'))
        .finally(next)
    })
  }
  next()
  return {
    [Symbol.dispose]() {
      stopped = true
      timer?.cancel()
    },
  }
}

/**
 * Gives the host back the values that it had before {@link enableForwarding}, where nobody set others since. Returns what
 * was restored, in words. Without a state file of this boot there is nothing to restore.
 */
export function restoreForwarding(context: Omit<ForwardingContext, 'log'>): string[] {
  const changes = readChanges(context)
  const restored = (changes ?? []).flatMap(({ path, before, set }) => {
    // Undefined when the link of a setting is gone.
    if (context.kernel.readSysctl(path) !== set) return []
    context.kernel.writeSysctl(path, before)
    return [`sysctl ${path} set back to ${before}`]
  })
  removeStateFile(fileOf(context))
  return changes ? restored : [`${fileOf(context)}, which cannot be read (sysctls stay as they are)`]
}

async function routerAdvertisements(sysctls: readonly SysctlPlan[], kernel: BridgeKernel): Promise<SysctlPlan[]> {
  if (!sysctls.some(({ path }) => path === ipv6Forwarding) || kernel.readSysctl(ipv6Forwarding) !== '0') return []
  const links = await kernel.rtnetlink.links.list()
  return ['default', ...links.map(({ name }) => name)]
    .map((name) => ({ path: `net/ipv6/conf/${name}/accept_ra`, value: '2' }))
    .filter(({ path }) => kernel.readSysctl(path) === '1')
}

function fileOf({ stateDir }: Pick<ForwardingContext, 'stateDir'>): string {
  return join(stateDir, 'sysctls.json')
}

/** Undefined when the file is damaged: what the host had before is not known then, and nothing may be set back. */
function readChanges(context: Pick<ForwardingContext, 'stateDir' | 'bootId'>): ChangedSysctl[] | undefined {
  const text = readStateFile(fileOf(context))
  if (text === undefined) return []
  try {
    const { bootId, changes } = JSON.parse(text) as { bootId: string; changes: ChangedSysctl[] }
    if (bootId !== context.bootId) return []
    const isWhole = changes.every((change) => [change.path, change.before, change.set].every(isText))
    return isWhole ? changes : undefined
  } catch (error) {
    // Text that is not JSON, or JSON of another shape.
    if (error instanceof SyntaxError || error instanceof TypeError) return undefined
    throw error
  }
}

function isText(value: unknown): boolean {
  return typeof value === 'string'
}

function writeChanges(changes: readonly ChangedSysctl[], context: ForwardingContext): void {
  writeStateFile(fileOf(context), `${JSON.stringify({ bootId: context.bootId, changes })}\n`)
}
