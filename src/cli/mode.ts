import { Command } from 'commander'
import type { ModeView } from '../daemon/control-api.ts'
import { serviceModes } from '../daemon/services-config.ts'
import { callDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'

/** `fairlead mode`: how Services are brought to the kernel, while the daemon runs. */
export function modeCommand(): Command {
  return new Command('mode')
    .description('how the daemon brings Services to the kernel')
    .addCommand(
      new Command('get')
        .description('print the mode that is in the kernel')
        .addOption(socketOption())
        .option('--json', 'print as JSON')
        .action(async (options: { socket: string; json?: boolean }) => {
          const view = await callDaemon<ModeView>(options.socket, 'GET', '/mode')
          console.log(options.json ? JSON.stringify(view) : view.mode)
        }),
    )
    .addCommand(
      new Command('set')
        .description('switch the mode without an outage')
        .argument('<mode>', serviceModes.join(', '))
        .addOption(socketOption())
        .addHelpText(
          'after',
          `
The new mode is programmed and verified beside the old one, then the old one is removed; connections live on. When the new
one cannot be had, the old one goes on, and the exit code is 1. It holds until the daemon stops, or services.mode (of a
KubeProxyConfiguration: mode) changes in its file.`,
        )
        .action(async (mode: string, options: { socket: string }) => {
          const view = await callDaemon<ModeView>(options.socket, 'POST', '/mode', { mode })
          console.log(view.mode)
        }),
    )
}
