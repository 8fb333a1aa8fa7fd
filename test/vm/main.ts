import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command, InvalidArgumentError } from 'commander'
import { launcherFlags } from '../../bench/launcher-flags.ts'
import { guestObstacle, runInGuest } from './guest.ts'
import { cacheFolder, ensureKernel } from './kernel-package.ts'

interface Options {
  readonly cpus: number
  readonly memory: number
  readonly limit: number
  readonly share?: string
  readonly root?: string
}

const command = new Command('npm run vm --')
  .description("Runs a command in a guest with Debian's own kernel; without one, a shell.")
  .argument('[command...]', 'the words, run in this folder; the exit code is theirs')
  .option('--cpus <n>', 'how many CPUs the guest has', positive, 2)
  .option('--memory <MiB>', "the guest's memory, which also holds what it writes", positive, 4096)
  .option('--limit <seconds>', 'when a guest is killed', positive, 1800)
  .option('--share <folder>', 'a folder that the guest may write to; all else that it writes is gone afterwards')
  .option(
    '--root <folder>',
    'another root than that of this machine; its systemd is then process 1, and the command runs in /',
  )
  .passThroughOptions()
  .action(async (argv: string[], options: Options) => {
    process.exitCode = await run(argv, options)
  })

await command.parseAsync()

async function run(argv: readonly string[], options: Options): Promise<number> {
  const obstacle = guestObstacle()
  if (obstacle !== undefined) {
    say(`No guest can run here: ${obstacle}.`)
    return 125
  }
  if (options.root === undefined) fillCompileCache()
  const result = await runInGuest({
    kernel: ensureKernel(cacheFolder(process.env), say),
    argv,
    folder: options.root === undefined ? process.cwd() : '/',
    environment: guestEnvironment(),
    cpus: options.cpus,
    memoryMiB: options.memory,
    limitSeconds: options.limit,
    say,
    ...(options.share === undefined ? {} : { share: options.share }),
    ...(options.root === undefined ? {} : { root: options.root }),
  })
  if (result.code === undefined) {
    say(`The guest ended without an exit code; its console: ${result.consoleLog ?? 'nothing was written'}`)
    return 125
  }
  say(`(guest: ${result.accelerator}, up in ${result.bootSeconds?.toFixed(1) ?? '?'} s)`)
  return result.code
}

/** Where Node keeps what it made of our TypeScript. The guest sees the host's, and writes to its overlay. */
function compileCache(): string {
  return join(dirname(cacheFolder(process.env)), 'node')
}

/**
 * Fills {@link compileCache}: an emulated Node takes seconds to read our TypeScript, and now and then dies of it (V8 moves the WebAssembly
 * that strips types to another tier and no longer finds its own code: ThreadIsolation::StartOfJitAllocationAt).
 */
function fillCompileCache(): void {
  const env = { ...process.env, NODE_COMPILE_CACHE: compileCache() }
  const node = process.execPath
  const importedLater = ['src/daemon/control-plane.ts', 'src/sources/docker.ts', 'src/sources/kubernetes.ts']
  const imports = importedLater.map((path) => `import(${JSON.stringify(ours(path))})`).join(';')
  const commands = [
    // It imports all of the program, and ends at once without a parent to talk to.
    [node, ours('test/conformance/proxy-host.ts')],
    [node, ours('test/conformance/main.ts'), '--help'],
    [node, ours('bench/main.ts'), '--help'],
    // The daemon: V8 has other flags there, and keeps what it compiled apart. Some of it is only imported where it is wanted.
    [ours('bin/fairlead'), '--help'],
    [node, ...launcherFlags, '--eval', imports],
  ]
  for (const [program = '', ...words] of commands) spawnSync(program, words, { env, stdio: 'ignore' })
}

function ours(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, import.meta.url))
}

/** Emulation is about ten times slower than the machine, so patience is scaled; tests never check less for it. */
function guestEnvironment(): Record<string, string> {
  const passed = ['PATH', 'HOME', 'TERM', 'LANG', 'FAIRLEAD_TIME_SCALE']
  const values = passed.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]))
  const cache = { NODE_COMPILE_CACHE: compileCache() }
  return {
    FAIRLEAD_TIME_SCALE: '10',
    FAIRLEAD_GUEST: '1',
    ...cache,
    ...(Object.fromEntries(values) as Record<string, string>),
  }
}

function positive(text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value <= 0) throw new InvalidArgumentError('expected a whole number above 0')
  return value
}

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}
