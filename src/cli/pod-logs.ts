import { spawnSync } from 'node:child_process'
import { Command } from 'commander'
import type { PodView } from '../daemon/control-api.ts'
import { callDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'
import { UsageError } from './usage-error.ts'

interface LogsOptions {
  readonly socket: string
  readonly namespace: string
  readonly follow?: boolean
  readonly tail?: string
}

/** `fairlead pod logs`: what the pod's command printed. */
export function podLogs(): Command {
  return new Command('logs')
    .description("print what a pod's command wrote to standard output and standard error")
    .argument('<name>', 'the name of the pod')
    .option('-n, --namespace <namespace>', 'the namespace', 'default')
    .option('-f, --follow', 'go on printing what comes')
    .option('--tail <lines>', 'only the last lines')
    .addOption(socketOption())
    .action(async (name: string, options: LogsOptions) => {
      if (options.tail !== undefined && !/^\d+$/.test(options.tail)) {
        throw new UsageError(`--tail ${options.tail}: expected a number of lines`, { exitCode: 2 })
      }
      const { pods } = await callDaemon<{ pods: PodView[] }>(options.socket, 'GET', '/pods')
      const pod = pods.find((pod) => pod.name === name && pod.namespace === options.namespace)
      if (!pod) throw new UsageError(`there is no pod ${options.namespace}/${name}`)
      const from = options.tail === undefined ? ['-n', '+1'] : ['-n', options.tail]
      const { status, error } = spawnSync('tail', [...from, ...(options.follow ? ['-f'] : []), '--', pod.log], {
        stdio: 'inherit',
      })
      if (error) throw new UsageError(`cannot print ${pod.log}: ${error.message}`, { cause: error })
      process.exitCode = status ?? 0
    })
}
