import { Command } from 'commander'
import { streamFromDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'

/** `fairlead events`: what happens, one line each, until Ctrl-C. */
export function eventsCommand(): Command {
  return new Command('events')
    .description('what the daemon does, one line each: the last ones, then those that come')
    .addOption(socketOption())
    .action(async (options: { socket: string }) => {
      await streamFromDaemon(options.socket, '/events', process.stdout)
    })
}
