import { renameSync, writeFileSync } from 'node:fs'
import { Command } from 'commander'
import type { NodeTokensView } from '../daemon/control-api.ts'
import { backupCommand, restoreCommand } from './api-backup.ts'
import { callDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'
import { formatTable } from './table.ts'
import { UsageError } from './usage-error.ts'

interface TokenOptions {
  readonly socket: string
  readonly output?: string
  readonly server?: string
  readonly revoke?: boolean
}

/** `fairlead api`. */
export function apiCommand(): Command {
  return new Command('api')
    .description('backups of the embedded API, and who may use it')
    .addCommand(backupCommand())
    .addCommand(restoreCommand())
    .addCommand(nodeTokenCommand())
}

function nodeTokenCommand(): Command {
  return new Command('node-token')
    .description('make a kubeconfig for the daemon of another machine; without a name, list the nodes that have one')
    .argument('[node]', "the node's name: nodeName in its configuration")
    .addOption(socketOption())
    .option('-o, --output <file>', 'write it there (mode 0600) instead of printing it')
    .option('--server <url>', 'how that machine reaches the API, like https://192.0.2.2:6443')
    .option('--revoke', 'end the tokens of the node, and the connections made with them')
    .addHelpText(
      'after',
      `
The token may read everything, and write the node's own Node, its Lease, and the pods that run on it. A node that has one
goes on with it until the new one is used for the first time.`,
    )
    .action(async (node: string | undefined, options: TokenOptions) => {
      const { socket, output, server, revoke } = options
      if (node === undefined) {
        if (revoke || output !== undefined || server !== undefined) throw new UsageError('name a node', { exitCode: 2 })
        const { tokens } = await callDaemon<NodeTokensView>(socket, 'GET', '/api/nodes')
        if (tokens.length === 0) console.error('no node has a token')
        else {
          const rows = tokens.map(({ node, issued, pending }) => [node, issued, pending ? 'no' : 'yes'])
          console.log(formatTable(['NODE', 'ISSUED', 'IN USE'], rows))
        }
        return
      }
      const path = `/api/nodes/${encodeURIComponent(node)}/token`
      if (revoke) {
        await callDaemon(socket, 'DELETE', path)
        console.error(`the tokens of ${node} are revoked`)
        return
      }
      const { kubeconfig } = await callDaemon<{ kubeconfig: string }>(socket, 'POST', path, { server })
      if (output === undefined) process.stdout.write(kubeconfig)
      else {
        writeFileSync(`${output}.new`, kubeconfig, { mode: 0o600 })
        renameSync(`${output}.new`, output)
      }
    })
}
