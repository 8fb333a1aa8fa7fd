import { Command } from 'commander'
import { doctor } from '../daemon/doctor.ts'
import { socketOption } from './socket-option.ts'

/** `fairlead doctor`: exits 0 when everything that is needed works. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('probe this machine and say what works (exit code 1 when something needed does not)')
    .addOption(socketOption())
    .option('--json', 'print as JSON')
    .action(async (options: { socket: string; json?: boolean }) => {
      const findings = await doctor({ controlSocket: options.socket })
      if (options.json) console.log(JSON.stringify(findings))
      else {
        const width = Math.max(...findings.map(({ name }) => name.length))
        for (const { name, ok, needed, detail, hint } of findings) {
          const mark = ok ? 'ok     ' : needed ? 'MISSING' : 'note   '
          console.log(
            `${mark}  ${name.padEnd(width)}  ${detail}${hint === undefined ? '' : `\n${' '.repeat(width + 11)}-> ${hint}`}`,
          )
        }
      }
      process.exitCode = findings.every(({ ok, needed }) => ok || !needed) ? 0 : 1
    })
}
