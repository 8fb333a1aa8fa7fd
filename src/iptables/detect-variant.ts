import { run, RunError } from '../linux/exec.ts'
import type { Netns } from '../linux/netns.ts'
import type { Variant } from './client.ts'
import { versionOf } from './open-client.ts'
import { parseSave } from './save-format.ts'

/** Which kind of tools a machine uses, and how that shows. */
export interface DetectedVariant {
  readonly variant: Variant
  readonly reason: string
}

/** Chains that kubelet makes with the kind of tools that the host uses (KEP-3178). */
const kubeletChains = ['KUBE-IPTABLES-HINT', 'KUBE-KUBELET-CANARY']

/** The nft tools can take minutes to list very many rules: who has so many uses them. */
const countTimeoutMs = 5000

/**
 * Finds out which kind of tools this machine's other programs use, as kubernetes-sigs/iptables-wrappers does: where kubelet's
 * chains are; else where more rules are; else what plain `iptables` is. Mixing both kinds leads to rules that contradict each other.
 */
export async function detectVariant(options: { readonly netns?: Netns } = {}): Promise<DetectedVariant> {
  // Daemons wait for this at their start, so all tools run at once.
  const tables = await Promise.all([
    saveAll('nft', ['-t', 'mangle'], options.netns),
    saveAll('legacy', [], options.netns),
  ])
  for (const [i, variant] of (['nft', 'legacy'] as const).entries()) {
    const saved = tables[i] ?? []
    const hint = kubeletChains.find((chain) => saved.some((text) => hasChain(text, chain)))
    if (hint !== undefined) return { variant, reason: `kubelet's chain ${hint} is in the ${variant} tables` }
  }
  const [legacy, nft] = await Promise.all([countRules('legacy', options.netns), countRules('nft', options.netns)])
  if (legacy !== nft) {
    const variant = legacy > nft ? 'legacy' : 'nft'
    return { variant, reason: `${legacy} rules in the legacy tables, ${nft} in the nft ones` }
  }
  const plain = await versionOf('iptables', options.netns)
  if (plain) return { variant: plain.variant, reason: `iptables is of the ${plain.variant} kind` }
  return { variant: 'nft', reason: 'no rules and no plain iptables' }
}

/** What the save tools of a kind print, both families. A tool that is missing or fails prints nothing. */
async function saveAll(variant: Variant, args: readonly string[], netns: Netns | undefined): Promise<string[]> {
  return await Promise.all(
    ['iptables', 'ip6tables'].map(async (base) => {
      try {
        const argv = [`${base}-${variant}-save`, ...args]
        const result = await run(argv, { timeout: countTimeoutMs, ...(netns && { netns }) })
        return result.stdout
      } catch (error) {
        // Not installed, or too many rules to list in time: either way no answer to the question.
        if (!(error instanceof RunError)) throw error
        return ''
      }
    }),
  )
}

async function countRules(variant: Variant, netns: Netns | undefined): Promise<number> {
  const texts = await saveAll(variant, [], netns)
  return texts.reduce((count, text) => count + (text.match(/^-/gm)?.length ?? 0), 0)
}

function hasChain(text: string, chain: string): boolean {
  return [...parseSave(text).values()].some((chains) => chains.has(chain))
}
