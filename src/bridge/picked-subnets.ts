import { join } from 'node:path'
import type { Log } from '../base/log.ts'
import { formatCidr, parseNetwork, type Cidr } from '../net/cidr.ts'
import type { Network } from './network.ts'
import { readStateFile, writeStateFile } from './state-file.ts'

/** Where they are kept. */
export function pickedSubnetsFile(stateDir: string): string {
  return join(stateDir, 'subnets.json')
}

/** The subnets that each network had at the last start, by name, so that picked ones stay. A broken file is an empty one. */
export function readPickedSubnets(path: string, log: Log): ReadonlyMap<string, readonly Cidr[]> {
  try {
    const networks = JSON.parse(readStateFile(path) ?? '{}') as Record<string, string[]>
    return new Map(Object.entries(networks).map(([name, subnets]) => [name, subnets.map(parseNetwork)]))
  } catch (error) {
    log.warn({ file: path, err: error }, 'Cannot read the subnets of the last start; they are picked anew')
    return new Map()
  }
}

/** Remembers them. */
export function writePickedSubnets(path: string, networks: readonly Network[]): void {
  const subnets = networks.map((network) => [network.name, network.subnets.map(({ cidr }) => formatCidr(cidr))])
  writeStateFile(path, `${JSON.stringify(Object.fromEntries(subnets))}\n`)
}
