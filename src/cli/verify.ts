import { Command } from 'commander'
import type { VerifyView } from '../daemon/control-api.ts'
import { callDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'

/** `fairlead verify`: exits 0 when the kernel is as wanted, 1 when it is not. */
export function verifyCommand(): Command {
  return new Command('verify')
    .description('compare what the kernel holds of Services with what is wanted (exit code 1 when they differ)')
    .addOption(socketOption())
    .option('--json', 'print as JSON')
    .addHelpText(
      'after',
      `
Reads the kernel and changes nothing. A difference that stays for more than a second is a fault: the daemon puts right what
others change as soon as the kernel tells of it ("fairlead events" shows when).`,
    )
    .action(async (options: { socket: string; json?: boolean }) => {
      const view = await callDaemon<VerifyView>(options.socket, 'GET', '/verify')
      console.log(options.json ? JSON.stringify(view) : formatVerify(view))
      process.exitCode = view.differences.length === 0 ? 0 : 1
    })
}

function formatVerify({ mode, services, differences, tookMs }: VerifyView): string {
  const what = `${services} Services, ${mode} mode, compared in ${tookMs.toFixed(0)} ms`
  if (differences.length === 0) return `the kernel agrees with what is wanted (${what})`
  return [
    `the kernel differs from what is wanted in ${differences.length} places (${what}); this would make it right:`,
    ...differences.slice(0, 50).map((line) => `  ${line}`),
    ...(differences.length > 50 ? [`  and ${differences.length - 50} more (--json has all)`] : []),
  ].join('\n')
}
