import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { UsageError } from './usage-error.ts'

/** `fairlead bench`: what `npm run bench` does, where there is no npm. */
export function benchCommand(): Command {
  return new Command('bench')
    .description('measure Services, networks and names on this machine, in namespaces of their own')
    .argument('[words...]', 'suites and options')
    .allowUnknownOption()
    .passThroughOptions()
    .addHelpText(
      'after',
      () => `\n${spawnSync(process.execPath, [findProgram(), '--help'], { encoding: 'utf8' }).stdout}`,
    )
    .action((words: string[]) => {
      // A process of its own: it ends, and clears up, in its own way.
      const { status, error } = spawnSync(process.execPath, [findProgram(), ...words], { stdio: 'inherit' })
      if (error) throw new UsageError(`cannot run the benchmark: ${error.message}`, { cause: error })
      process.exitCode = status ?? 1
    })
}

function findProgram(): string {
  const program = fileURLToPath(new URL('../../bench/main.ts', import.meta.url))
  if (existsSync(program)) return program
  throw new UsageError('the benchmark is not part of this package: run "npm run bench" in a checkout')
}
