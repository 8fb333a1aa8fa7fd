import { Command } from 'commander'
import type { ReloadView } from '../daemon/control-api.ts'
import { callDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'

/** `fairlead reload`: the configuration file, now. */
export function reloadCommand(): Command {
  return new Command('reload')
    .description('let the daemon take over its configuration file now, and say what is wrong with it')
    .addOption(socketOption())
    .option('--json', 'print as JSON')
    .addHelpText(
      'after',
      `
A changed file is noticed without this, too. When it cannot be used, the configuration before goes on, and the exit code is 1.`,
    )
    .action(async (options: { socket: string; json?: boolean }) => {
      const view = await callDaemon<ReloadView>(options.socket, 'POST', '/reload')
      if (options.json) return console.log(JSON.stringify(view))
      console.log('the configuration is taken over')
      if (view.later.length > 0) console.log(`of it, waits for the next start: ${view.later.join(', ')}`)
    })
}
