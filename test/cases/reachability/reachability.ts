import { readdirSync, readFileSync } from 'node:fs'
import { loadAll } from 'js-yaml'
import type { GatewayMode } from '../../../src/model/network.ts'

/** Who tries. `other network` is a pod of another network in mode nat. */
export const clients = ['itself', 'same network', 'other network', 'node', 'neighbour', 'behind a router'] as const
export type Client = (typeof clients)[number]

/**
 * What is tried: a published port at the pod's own address; the port published at all addresses, at the node's address; the
 * port published at loopback, by the node at 127.0.0.1, by others at the node's address; a port that is not published.
 */
export const targets = ['pod address', 'published address', 'loopback publication', 'unpublished port'] as const
export type Target = (typeof targets)[number]

/** `own`: reached, and the pod sees an address of the client's. `gateway`: reached, it sees the bridge's. `no`: not reached. */
export type Reach = 'own' | 'gateway' | 'no'

/** One network and who reaches its pods. A target that is left out cannot be had in such a network. */
export interface ReachabilityCase {
  readonly title: string
  readonly network: {
    readonly name: string
    readonly bridge: string
    readonly gatewayMode: GatewayMode
    readonly icc: boolean
    readonly internal: boolean
  }
  readonly expect: Readonly<Partial<Record<Target, Readonly<Record<Client, Reach>>>>>
}

/** All cases, read from the files beside this one. */
export function reachabilityCases(): readonly ReachabilityCase[] {
  const folder = new URL('.', import.meta.url)
  return readdirSync(folder)
    .filter((name) => name.endsWith('.yaml'))
    .toSorted()
    .map((name) => loadAll(readFileSync(new URL(name, folder), 'utf8'))[0] as ReachabilityCase)
}

/** A case as a table in Markdown, as `docs/bridge.md` has it. */
export function formatCase({ title, expect }: ReachabilityCase): string {
  const words = { own: 'yes', gateway: 'yes (¹)', no: 'no' } as const
  const rows = targets.flatMap((target) => {
    const row = expect[target]
    return row ? [`| ${target} | ${clients.map((client) => words[row[client]]).join(' | ')} |`] : []
  })
  return [`| ${title} | ${clients.join(' | ')} |`, `| --- |${' --- |'.repeat(clients.length)}`, ...rows].join('\n')
}
