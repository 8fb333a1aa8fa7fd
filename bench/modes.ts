import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { openIpvs } from '../src/ipvs/open-client.ts'
import { run } from '../src/linux/exec.ts'
import { createAnonymousNetns } from '../src/linux/netns.ts'
import { openNftables } from '../src/nftables/open-client.ts'

/** Proxy modes as they are measured: iptables once with each kind of tools. */
export const proxyModes = ['nftables', 'iptables-legacy', 'iptables-nft', 'ipvs', 'userspace'] as const

/** See {@link proxyModes}. */
export type ProxyMode = (typeof proxyModes)[number]

/** A mode, or `direct`: clients speak to the endpoint's own address over the same path, without any proxy. */
export type BenchMode = ProxyMode | 'direct'

/** Everything that `--modes` takes. */
export const benchModes: readonly BenchMode[] = [...proxyModes, 'direct']

/** Why a mode cannot run on this machine, with what to do about it; undefined: it can. Tries it in a namespace of its own. */
export async function whyNot(mode: BenchMode): Promise<string | undefined> {
  using netns = createAnonymousNetns()
  try {
    switch (mode) {
      case 'direct':
        return undefined
      case 'nftables':
      case 'userspace': {
        using nft = openNftables({ netns })
        await nft.listTables()
        return undefined
      }
      case 'ipvs': {
        using ipvs = openIpvs({ netns })
        await ipvs.info()
        return undefined
      }
      case 'iptables-legacy':
      case 'iptables-nft': {
        const { code, stderr } = await run([mode, '-t', 'nat', '-S'], { netns, timeout: 20_000 })
        return code === 0 ? undefined : stderr.trim()
      }
      default:
        return mode satisfies never
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    return `${reason}${hints[mode]}`
  }
}

const hints: Readonly<Record<BenchMode, string>> = {
  nftables: ' (needs a kernel with nf_tables)',
  userspace: ' (needs a kernel with nf_tables)',
  'iptables-legacy': ' (Debian: apt-get install iptables)',
  'iptables-nft': ' (Debian: apt-get install iptables)',
  ipvs: ' (needs a kernel with ip_vs; in a guest that has it: npm run vm -- npm run bench -- ...)',
  direct: '',
}

/** Whether a program is in PATH, or in the folders where Debian keeps those for root. */
export function hasProgram(name: string, path: string): boolean {
  return [...path.split(delimiter), '/usr/sbin', '/sbin'].some((folder) => existsSync(join(folder, name)))
}
