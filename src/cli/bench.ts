import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { UsageError } from './usage-error.ts'

const inCheckout = fileURLToPath(new URL('../../bench/main.ts', import.meta.url))
/** Made by scripts/build.sh. */
const installed = fileURLToPath(new URL('../bench/bench/main.js', import.meta.url))

/**
 * `fairlead bench`: what `npm run bench` does, where there is no npm. All words go on as they are to a process of its own, which ends, and
 * clears up, in its own way; nothing of it is imported here.
 */
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
    .action(async (words: string[]) => {
      const child = spawn(process.execPath, [findProgram(), ...words], { stdio: 'inherit' })
      // Ctrl-C reaches both of us: the child takes signals in the same second as one.
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
      const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
      if (code === null)
        process.stderr.write(
          `fairlead bench: ended by ${signal}${signal === 'SIGKILL' ? ', perhaps for want of memory (dmesg)' : ''}\n`,
        )
      process.exitCode = code ?? 1
    })
}

function findProgram(): string {
  const program = [inCheckout, installed].find((path) => existsSync(path))
  if (program === undefined) throw new UsageError(`${installed} is missing: this installation has no benchmark`)
  return program
}
