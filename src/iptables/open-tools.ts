import { silentLog, type Log } from '../base/log.ts'
import type { Netns } from '../linux/netns.ts'
import { ipFamilies } from '../net/ip-address.ts'
import type { IptablesClient, Variant } from './client.ts'
import { detectVariant, type DetectedVariant } from './detect-variant.ts'
import { IptablesError, isPermissionDenied } from './iptables-error.ts'
import { findTools, openIptables, type Tools } from './open-client.ts'

/** The tools that a machine uses. */
export interface IptablesTools {
  readonly variant: Variant
  /** One for each address family that the machine has. Never empty. */
  readonly clients: readonly IptablesClient[]
  /** What is missing, each with its reason. */
  readonly limits: readonly string[]
}

/** Opens the tools that this machine uses, for the families that it has. Throws IptablesError when there are none. */
export async function openTools(
  options: {
    readonly netns?: Netns
    /** @default `auto`: what the machine's other programs use */
    readonly variant?: Variant | 'auto'
    readonly log?: Log
  } = {},
): Promise<IptablesTools> {
  const { netns, variant = 'auto', log = silentLog } = options
  const place = { ...(netns && { netns }) }
  if (variant !== 'auto') return await openKind({ variant, reason: 'it was asked for' }, { place, log })
  // The tools of either kind are looked for at once: whoever starts a daemon waits for this.
  const tools = { legacy: findAll('legacy', place), nft: findAll('nft', place) }
  const detected = await detectVariant(place)
  try {
    return await openKind(detected, { place, log, tools: tools[detected.variant] })
  } catch (error) {
    if (isPermissionDenied(error) || !(error instanceof IptablesError)) throw error
    // What plain `iptables` is says nothing of the kernel, which may have no nf_tables, or nothing but that.
    const other: Variant = detected.variant === 'nft' ? 'legacy' : 'nft'
    try {
      return await openKind(
        { variant: other, reason: `the other kind cannot be used: ${error.message}` },
        { place, log },
      )
    } catch {
      // The kind that the machine uses is the one to mend.
      throw error
    }
  }
}

interface Place {
  readonly netns?: Netns
}

/** The tools of one kind, family by family. */
function findAll(variant: Variant, place: Place): readonly Promise<Tools>[] {
  return ipFamilies.map((family) => {
    const tools = findTools({ family, variant, ...place })
    // Nobody needs to wait for those of the other kind.
    tools.catch(() => {})
    return tools
  })
}

async function openKind(
  { variant, reason }: DetectedVariant,
  { place, log, tools }: { readonly place: Place; readonly log: Log; readonly tools?: readonly Promise<Tools>[] },
): Promise<IptablesTools> {
  const limits: string[] = []
  const clients: IptablesClient[] = []
  const opened = await Promise.allSettled(
    ipFamilies.map((family, i) => openIptables({ family, variant, ...place, ...(tools?.[i] && { tools: tools[i] }) })),
  )
  for (const [i, result] of opened.entries()) {
    if (result.status === 'fulfilled') {
      clients.push(result.value)
      continue
    }
    const { reason: error } = result as { readonly reason: unknown }
    if (ipFamilies[i] === 4 || isPermissionDenied(error)) throw error
    limits.push(`IPv6: ${error instanceof Error ? error.message : String(error)}`)
  }
  log.info({ variant, reason }, `iptables: the ${variant} tools are used, because ${reason}`)
  return { variant, clients, limits }
}

/** The tools of one kind, of the families that they are installed for. Looks at no table, which would bring it into being. */
export async function openInstalled(
  variant: Variant,
  place: { readonly netns?: Netns } = {},
): Promise<readonly IptablesClient[]> {
  const clients: IptablesClient[] = []
  for (const family of ipFamilies) {
    try {
      clients.push(await openIptables({ family, variant, probe: false, ...place }))
    } catch (error) {
      // Not installed: then nobody can have used them either.
      if (!(error instanceof IptablesError)) throw error
    }
  }
  return clients
}
