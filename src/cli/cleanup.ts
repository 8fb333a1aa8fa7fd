import { Command } from 'commander'
import { cleanupMachine } from '../daemon/cleanup.ts'
import { callDaemon, ControlError } from './control-client.ts'
import { socketOption } from './socket-option.ts'
import { UsageError } from './usage-error.ts'
import type { StatusView } from '../daemon/control-api.ts'

/** `fairlead cleanup`: removes everything of ours from the kernel, by name, without any state file. */
export function cleanupCommand(): Command {
  return new Command('cleanup')
    .description('remove everything of ours from the kernel: tables, links, pods (no state file needed)')
    .addOption(socketOption())
    .option('--state-dir <path>', 'where the daemon kept its state, to set sysctls back', '/var/lib/fairlead')
    .option('--force', 'also while a daemon runs, which would put things back')
    .option('--kube-proxy', 'also the iptables rules that a kube-proxy left')
    .option('--json', 'print what was removed as JSON')
    .action(
      async (options: { socket: string; stateDir: string; force?: boolean; kubeProxy?: boolean; json?: boolean }) => {
        if (process.getuid?.() !== 0)
          throw new UsageError('needs root: it removes links, namespaces and nf_tables tables')
        if (!options.force) await refuseBesideDaemon(options.socket)
        const { removed, left } = await cleanupMachine({
          stateDir: options.stateDir,
          kubeProxyRules: options.kubeProxy ?? false,
        })
        if (options.json) console.log(JSON.stringify({ removed, left }))
        else
          console.log(
            removed.length === 0
              ? 'nothing of ours is in the kernel'
              : removed.map((item) => `removed ${item}`).join('\n'),
          )
        if (!options.json) for (const item of left) console.log(`left alone: ${item} (--kube-proxy removes them)`)
      },
    )
}

async function refuseBesideDaemon(socket: string): Promise<void> {
  let status: StatusView
  try {
    status = await callDaemon<StatusView>(socket, 'GET', '/status')
  } catch (error) {
    if (error instanceof ControlError) return
    throw error
  }
  throw new UsageError(`a daemon runs (pid ${status.pid}) and would put everything back; stop it first, or use --force`)
}
