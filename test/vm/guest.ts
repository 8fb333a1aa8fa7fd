import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  accessSync,
  constants,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { makeBootImage } from './boot-image.ts'
import type { Kernel } from './kernel-package.ts'

/** What runs in a guest, and in which. */
export interface GuestOptions {
  readonly kernel: Kernel
  /** The words of the command; empty for a shell on this terminal. */
  readonly argv: readonly string[]
  /** The folder that the command runs in; the guest has the host's files at the same paths. */
  readonly folder: string
  /** Another root than the host's, which then has systemd as its first program. */
  readonly root?: string
  readonly environment: Readonly<Record<string, string>>
  /** A folder of the host that the guest may write to, at the same path. Everything else written is gone afterwards. */
  readonly share?: string
  readonly cpus: number
  readonly memoryMiB: number
  /** A guest that runs longer is killed. */
  readonly limitSeconds: number
  readonly say: (text: string) => void
}

export interface GuestResult {
  /** The command's exit code; undefined when the guest was killed, or broke. */
  readonly code: number | undefined
  /** From the start of QEMU to the command's, as the host saw it. */
  readonly bootSeconds: number | undefined
  readonly accelerator: 'kvm' | 'tcg'
  /** The console's log, kept only when there is no exit code. */
  readonly consoleLog: string | undefined
}

const program = 'qemu-system-x86_64'

/** KVM that needs longer to boot than this does not work: nested ones may hang instead of failing. */
const kvmPatience = 15_000

/** Why no guest can be run here; undefined when one can. */
export function guestObstacle(): string | undefined {
  if (process.arch !== 'x64')
    return `the guest's kernel is for x86-64, and its programs are this machine's (${process.arch})`
  const tools = { [program]: 'qemu-system-x86', busybox: 'busybox-static', depmod: 'kmod', 'apt-get': 'apt' }
  for (const [tool, debianPackage] of Object.entries(tools)) {
    if (spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0) {
      return `needs ${tool} (Debian package ${debianPackage})`
    }
  }
  return undefined
}

/** Boots a guest, runs the command in it with its output on our stdout, and resolves when the guest is off. */
export async function runInGuest(options: GuestOptions): Promise<GuestResult> {
  if (hasKvm()) {
    const result = await boot('kvm', options)
    if (result.bootSeconds !== undefined) return result
    if (result.consoleLog !== undefined) rmSync(dirname(result.consoleLog), { recursive: true, force: true })
    options.say('KVM does not work here: emulating (TCG), which is about ten times slower.')
  }
  return boot('tcg', options)
}

async function boot(accelerator: 'kvm' | 'tcg', options: GuestOptions): Promise<GuestResult> {
  const run = mkdtempSync(join(tmpdir(), 'fairlead-vm-'))
  const file = (name: string): string => join(run, name)
  writeFileSync(file('command'), commandScript(options))
  for (const name of ['supervise.sh', 'run-command.sh']) {
    copyFileSync(fileURLToPath(new URL(name, import.meta.url)), file(name))
  }
  writeFileSync(file('share'), options.share ?? '')
  writeFileSync(file('init'), options.root === undefined ? '' : 'systemd')
  writeFileSync(file('limit'), String(options.limitSeconds))
  const initramfs = makeBootImage(options.kernel, run)

  const started = performance.now()
  const shell = options.argv.length === 0
  const child = spawn(program, qemuArguments(accelerator, options, run, initramfs), {
    stdio: [shell ? 'inherit' : 'ignore', 'inherit', accelerator === 'kvm' ? 'ignore' : 'inherit'],
  })
  const closed = once(child, 'exit')
  using _signals = endWith(child)
  let bootSeconds: number | undefined
  const watch = setInterval(() => {
    if (existsSync(file('booted'))) {
      bootSeconds = (performance.now() - started) / 1000
      clearInterval(watch)
    } else if (accelerator === 'kvm' && performance.now() - started > kvmPatience) child.kill('SIGKILL')
  }, 100)
  const limit = setTimeout(() => {
    options.say(`The guest did not end in ${options.limitSeconds} s: killed.`)
    child.kill('SIGKILL')
  }, options.limitSeconds * 1000)
  try {
    await closed
  } finally {
    clearInterval(watch)
    clearTimeout(limit)
  }

  const code = existsSync(file('code')) ? Number(readFileSync(file('code'), 'utf8')) : undefined
  if (code !== undefined || !existsSync(file('console.log'))) {
    rmSync(run, { recursive: true, force: true })
    return { code, bootSeconds, accelerator, consoleLog: undefined }
  }
  for (const name of ['initramfs', 'initramfs.cpio']) rmSync(file(name), { recursive: true, force: true })
  return { code, bootSeconds, accelerator, consoleLog: file('console.log') }
}

function qemuArguments(accelerator: 'kvm' | 'tcg', options: GuestOptions, run: string, initramfs: string): string[] {
  const folder = (id: string, path: string, more = ''): string[] => [
    '-fsdev',
    `local,id=${id},path=${path},security_model=none,multidevs=remap${more}`,
    '-device',
    `virtio-9p-pci,fsdev=${id},mount_tag=${id}`,
  ]
  // A panic ends the guest (-no-reboot) instead of hanging it.
  const parameters = 'console=ttyS0 loglevel=5 panic=-1 oops=panic nowatchdog net.ifnames=0 mitigations=off'
  const words = [
    // Without protection keys: V8 guards its compiled code with them, and under emulation it dies of that now and then.
    '-nodefaults -no-user-config -no-reboot -display none -nic none -cpu max,pku=off',
    `-accel ${accelerator === 'kvm' ? 'kvm' : 'tcg,thread=multi'}`,
    `-smp ${options.cpus} -m ${options.memoryMiB}`,
    '-chardev stdio,id=out,signal=off -device virtio-serial-pci -device virtconsole,chardev=out',
  ]
  return [
    ...words.flatMap((line) => line.split(' ')),
    '-kernel',
    options.kernel.image,
    '-initrd',
    initramfs,
    '-append',
    parameters,
    '-serial',
    `file:${join(run, 'console.log')}`,
    ...folder('root', options.root ?? '/', ',readonly=on'),
    ...folder('modules', options.kernel.modules, ',readonly=on'),
    ...folder('run', run),
    ...(options.share === undefined ? [] : folder('share', options.share)),
  ]
}

/** What the guest runs: a shell on the terminal (without .bashrc, which takes a while when it is emulated), or the words with their output, and no terminal, as in a pipe. */
function commandScript(options: GuestOptions): string {
  const size = process.stdout.isTTY ? `stty rows ${process.stdout.rows} cols ${process.stdout.columns}\n` : ''
  const variables = Object.entries(options.environment).map(([name, value]) => `export ${name}=${quote(value)}\n`)
  const start = `${variables.join('')}cd ${quote(options.folder)}\n`
  if (options.argv.length === 0) return `${size}${start}exec bash --norc -i || exec sh -i\n`
  return `stty -opost -echo
${start}mkfifo /run/vm-output && { cat </run/vm-output & }
${options.argv.map(quote).join(' ')} </dev/null >/run/vm-output 2>&1
code=$?
wait
exit $code
`
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

function hasKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** The guest ends with us, also when we are told to. */
function endWith(child: ChildProcess): Disposable {
  const end = (): void => void child.kill('SIGKILL')
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const signal of signals) process.on(signal, end)
  process.on('exit', end)
  return {
    [Symbol.dispose]: () => {
      for (const signal of signals) process.off(signal, end)
      process.off('exit', end)
    },
  }
}
