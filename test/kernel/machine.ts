import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { callDaemon, ControlError } from '../../src/cli/control-client.ts'
import type { StatusView } from '../../src/daemon/control-api.ts'
import { patience } from '../lab/patience.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
export const launcher = join(root, 'bin/fairlead')

/** Why such a machine cannot be made here; undefined when it can. */
export function machineObstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  if (spawnSync('ip', ['-V']).status !== 0) return 'needs ip(8) (Debian package iproute2) to set the machine up'
  if (spawnSync('unshare', ['--net', '--mount', 'true']).status !== 0) return 'cannot create namespaces here'
  return undefined
}

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/**
 * A whole machine for a daemon: network and mount namespaces of its own, with their own /run/netns, /run/fairlead and
 * /var/lib/fairlead, an uplink eth0 (192.0.2.2/24, 2001:db8:2::2/64) and a neighbour `outside` (192.0.2.1,
 * 2001:db8:2::1) that the default route leads to. Nothing of the real machine is touched. Disposing kills everything.
 */
export class Machine implements AsyncDisposable {
  readonly folder: string
  readonly #holder: ChildProcess
  readonly #daemons: ChildProcess[] = []

  private constructor(holder: ChildProcess, folder: string) {
    this.#holder = holder
    this.folder = folder
  }

  static async create(): Promise<Machine> {
    const script = `
      mkdir -p /run/netns /run/fairlead /var/lib/fairlead
      mount -t tmpfs none /run/netns && mount -t tmpfs none /run/fairlead && mount -t tmpfs none /var/lib/fairlead
      mount --make-shared /run/netns
      ip link set lo up
      ip netns add outside && ip link add eth0 type veth peer name eth0 netns outside
      ip addr add 192.0.2.2/24 dev eth0 && ip addr add 2001:db8:2::2/64 dev eth0 nodad && ip link set eth0 up
      ip -n outside link set lo up
      ip -n outside addr add 192.0.2.1/24 dev eth0 && ip -n outside addr add 2001:db8:2::1/64 dev eth0 nodad
      ip -n outside link set eth0 up
      ip route add default via 192.0.2.1 && ip -6 route add default via 2001:db8:2::1
      echo ready
      exec sleep 100000`
    const holder = spawn('unshare', ['--net', '--mount', '--propagation', 'private', 'sh', '-ec', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    if (!holder.stdout) throw new Error('no pipe to the holder')
    await Promise.race([
      once(holder.stdout, 'data'),
      once(holder, 'exit').then(() => Promise.reject(new Error('no machine'))),
    ])
    return new Machine(holder, mkdtempSync(join(tmpdir(), 'fairlead-machine-')))
  }

  /** The words that run a command on this machine. */
  get prefix(): readonly string[] {
    return ['nsenter', `--target=${this.#holder.pid}`, '--net', '--mount', '--']
  }

  /** Runs a command on the machine to its end. */
  run(...argv: readonly string[]): Promise<Ran> {
    return runToEnd([...this.prefix, ...argv])
  }

  /** Starts a process on the machine. */
  spawn(...argv: readonly string[]): ChildProcess {
    const [program = '', ...rest] = [...this.prefix, ...argv]
    const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#daemons.push(child)
    return child
  }

  /** `fairlead WORDS...` */
  fairlead(...words: readonly string[]): Promise<Ran> {
    return this.run(launcher, ...words)
  }

  /** Writes a file into the machine's folder and returns its path. */
  write(name: string, text: string): string {
    const path = join(this.folder, name)
    writeFileSync(path, text)
    return path
  }

  /** Starts `fairlead run` with this configuration; resolves when it is ready, rejects with its log when it ends first. */
  async startDaemon(config: string, ...flags: readonly string[]): Promise<DaemonProcess> {
    const file = this.write('fairlead.yaml', config)
    const child = this.spawn(launcher, 'run', '--config', file, ...flags)
    const daemon = new DaemonProcess(child)
    // Long for a machine with many Services; one that ends is noticed at once.
    const deadline = Date.now() + patience(120_000)
    for (;;) {
      if (child.exitCode !== null || Date.now() > deadline) {
        child.kill('SIGKILL')
        throw new Error(`the daemon did not start: ${daemon.log}`)
      }
      const status = await this.status()
      if (status?.ready) return daemon
      await sleep(50)
    }
  }

  /** What `fairlead status --json` prints; undefined while no daemon answers. */
  async status(): Promise<StatusView | undefined> {
    try {
      return await this.ask<StatusView>('/status')
    } catch (error) {
      if (error instanceof ControlError) return undefined
      throw error
    }
  }

  /** What the daemon answers on its control socket, without a process to ask for it. Throws ControlError. */
  async ask<T>(path: string): Promise<T> {
    return await callDaemon<T>(`/proc/${this.#holder.pid}/root/run/fairlead/control.sock`, 'GET', path)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#daemons) if (child.exitCode === null) child.kill('SIGKILL')
    // Whatever still runs in the machine (pods outlive their daemon) ends with it.
    const inside = processesInNetns(this.#holder.pid ?? 0)
    this.#holder.kill('SIGKILL')
    for (const pid of inside) if (pid !== this.#holder.pid) tryKill(pid)
    rmSync(this.folder, { recursive: true, force: true })
    await sleep(50)
  }
}

/** A running daemon and what it logged. */
export class DaemonProcess {
  readonly child: ChildProcess
  log = ''

  constructor(child: ChildProcess) {
    this.child = child
    child.stderr?.on('data', (chunk: Buffer) => (this.log += chunk.toString()))
    child.stdout?.on('data', (chunk: Buffer) => (this.log += chunk.toString()))
  }

  /** Sends a signal to the daemon itself and waits for its end. nsenter and the launcher exec, so the child is the daemon. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode
    const exited = once(this.child, 'exit')
    this.child.kill(signal)
    await exited
    return this.child.exitCode
  }
}

/** Runs a command to its end, however that is. */
export function runToEnd([program = '', ...rest]: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(program, rest, { timeout: patience(170_000), maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      const code = error ? (typeof error.code === 'number' ? error.code : 255) : 0
      resolve({ code, stdout, stderr })
    })
  })
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Processes that share the mount namespace of `pid`, or whose parent chain leads into it, by /proc. */
function processesInNetns(pid: number): number[] {
  const { stdout } = spawnSync('sh', ['-c', 'ls /proc | grep -E "^[0-9]+$"'], { encoding: 'utf8' })
  const mounts = readMountOf(pid)
  return stdout
    .split('\n')
    .map(Number)
    .filter((other) => other > 1 && mounts !== '' && readMountOf(other) === mounts)
}

/** The tmpfs on /run/netns is this machine's alone: its device number tells who belongs to it. */
function readMountOf(pid: number): string {
  try {
    const line = readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
      .split('\n')
      .findLast((entry) => entry.includes(' /var/lib/fairlead '))
    return line?.split(' ')[2] ?? ''
  } catch {
    // The process ended meanwhile.
    return ''
  }
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended meanwhile.
  }
}
