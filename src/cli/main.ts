import { Command, CommanderError } from 'commander'
import { apiCommand } from './api.ts'
import { applyCommand, deleteCommand, getCommand, watchCommand } from './api-commands.ts'
import { benchCommand } from './bench.ts'
import { cleanupCommand } from './cleanup.ts'
import { ControlError } from './control-client.ts'
import { dnsCommand } from './dns.ts'
import { describeCommand } from './describe.ts'
import { doctorCommand } from './doctor.ts'
import { eventsCommand } from './events.ts'
import { explainCommand } from './explain.ts'
import { helloCommand } from './hello.ts'
import { modeCommand } from './mode.ts'
import { networkCommand } from './network.ts'
import { planCommand } from './plan.ts'
import { podCommand } from './pod.ts'
import { reloadCommand } from './reload.ts'
import { runCommand } from './run.ts'
import { sourceCommand } from './source.ts'
import { statusCommand } from './status.ts'
import { UsageError } from './usage-error.ts'
import { verifyCommand } from './verify.ts'
import { versionCommand, versionText } from './version.ts'

const program = new Command('fairlead')
  .description('Bridge networks, Services and cluster DNS for this machine.')
  .version(versionText(), '-V, --version')
  .showHelpAfterError('(fairlead --help shows what there is)')
  .exitOverride()
  .enablePositionalOptions()
  .addHelpText(
    'after',
    `
How it goes together:
  fairlead run --config FILE      the daemon: follows manifests, programs the kernel, answers DNS
  fairlead pod run NAME -- CMD    a command in a network namespace of its own, on the bridge
  fairlead status                 what the daemon did last, and what it waits for

Try it:
  fairlead hello                  a network, three pods, a Service and its name; Ctrl-C removes it all
  fairlead doctor                 what this machine can do
  fairlead plan examples/hello/manifests
                                  the rules that these manifests would make, without touching anything`,
  )

for (const command of [
  runCommand(),
  statusCommand(),
  sourceCommand(),
  applyCommand(),
  getCommand(),
  describeCommand(),
  watchCommand(),
  deleteCommand(),
  apiCommand(),
  eventsCommand(),
  planCommand(),
  modeCommand(),
  reloadCommand(),
  networkCommand(),
  podCommand(),
  cleanupCommand(),
  explainCommand(),
  dnsCommand(),
  verifyCommand(),
  doctorCommand(),
  helloCommand(),
  benchCommand(),
  versionCommand(),
]) {
  program.addCommand(adopt(command, program))
}

// Who reads our output may have seen enough (`| head`): that is the end, as with other programs, and no failure to tell of.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})

try {
  await program.parseAsync(withoutArrow(process.argv))
} catch (error) {
  // Not only the code: a daemon whose start failed half-way would go on trying to repair what it has.
  process.exit(report(error))
}

/** `explain FROM -> TO`: the arrow as a word of its own would be read as an option. */
function withoutArrow(argv: readonly string[]): readonly string[] {
  return argv[2] === 'explain' ? argv.filter((word) => word !== '->') : argv
}

/** Gives a command and those below it the settings of their parent: errors are thrown, so that their exit code is ours. */
function adopt(command: Command, parent: Command): Command {
  command.copyInheritedSettings(parent)
  for (const child of command.commands) adopt(child, command)
  return command
}

/** Prints what went wrong, for people, and returns the exit code: 2 for a wrong call, 1 for the rest. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  if (error instanceof UsageError) {
    process.stderr.write(`fairlead: ${error.message}\n`)
    return error.exitCode
  }
  if (error instanceof ControlError) {
    process.stderr.write(`fairlead: ${error.message}\n`)
    return 1
  }
  process.stderr.write(`fairlead: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  return 1
}
