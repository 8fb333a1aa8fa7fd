import { join } from 'node:path'
import type { Log } from '../base/log.ts'
import { formatCidr, parseNetwork } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { noPeers, type ClusterPeers } from './cluster-peers.ts'
import { readStateFile, writeStateFile } from './state-file.ts'

/** Remembers the other nodes: a daemon that starts while the API is away goes on letting them in. Throws StateFileError. */
export function writePeers(stateDir: string, peers: ClusterPeers): void {
  const { network, pods, nodes } = peers
  writeStateFile(fileOf(stateDir), `${JSON.stringify({ network, pods: pods.map(formatCidr), nodes })}\n`)
}

/** The other nodes as they were last known; none where that cannot be read, which is said. */
export function readPeers(stateDir: string, log: Log): ClusterPeers {
  const file = fileOf(stateDir)
  try {
    const text = readStateFile(file)
    if (text === undefined) return noPeers
    const { network, pods, nodes } = JSON.parse(text) as { network: string; pods: string[]; nodes: string[] }
    return { network, pods: pods.map(parseNetwork), nodes: nodes.map(parseIp) }
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError || error instanceof ParseError)) throw error
    log.warn({ file, err: error }, 'The other nodes of the cluster cannot be read, they come back with the API')
    return noPeers
  }
}

function fileOf(stateDir: string): string {
  return join(stateDir, 'peers.json')
}
