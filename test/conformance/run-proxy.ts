import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { RunOptions } from '../../src/cli/run.ts'
import type { Host } from '../lab/host.ts'
import { patience } from '../lab/patience.ts'
import type { HostCall, HostReply } from './proxy-host.ts'

/** A daemon on a node. */
export interface RunningProxy {
  /** It ended by itself. */
  readonly hasEnded: boolean
  /** As SIGTERM does. */
  stop(): Promise<void>
  /** At once. */
  kill(): void
}

/** Starts `fairlead run` on a node. `note` is given what it writes. */
export type RunProxy = (node: Host, options: RunOptions, note: (text: string) => void) => RunningProxy

/** Each daemon is a process of its own, by this launcher, as a user starts it. */
export function spawnProxy(launcher: string): RunProxy {
  return (node, options, note) => {
    const flags = Object.entries(options).flatMap(([name, value]) => [
      `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
      ...(Array.isArray(value) ? (value as string[]) : [String(value)]),
    ])
    const child = node.spawn([launcher, 'run', ...flags], { stdio: ['ignore', 'pipe', 'pipe'] })
    follow(child, note)
    return {
      get hasEnded() {
        return hasEnded(child)
      },
      kill: () => void child.kill('SIGKILL'),
      async stop() {
        if (hasEnded(child)) return
        const ended = once(child, 'exit')
        child.kill('SIGTERM')
        const timer = setTimeout(() => child.kill('SIGKILL'), patience(5000))
        await ended
        clearTimeout(timer)
      },
    }
  }
}

/** A process that runs one daemon after the other; see proxy-host.ts. Another one takes its place should it end. */
export class ProxyHost implements Disposable {
  #child: ChildProcess | undefined
  #note = (_text: string): void => {}

  /** One at a time. */
  readonly run: RunProxy = (node, options, note) => {
    this.#note = note
    const child = this.#ready()
    let failed = false
    const netns = `/proc/${process.pid}/fd/${node.netns.fd}`
    const started = call(child, { kind: 'start', netns, options }).catch((error: unknown) => {
      failed = true
      note(`${String(error)}\n`)
    })
    return {
      get hasEnded() {
        return failed || hasEnded(child)
      },
      kill: () => void child.kill('SIGKILL'),
      async stop() {
        await started
        if (!failed && !hasEnded(child)) await call(child, { kind: 'stop' })
      },
    }
  };

  [Symbol.dispose](): void {
    this.#child?.kill('SIGKILL')
  }

  #ready(): ChildProcess {
    if (this.#child && !hasEnded(this.#child)) return this.#child
    const child = fork(fileURLToPath(new URL('proxy-host.ts', import.meta.url)), {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    follow(child, (text) => this.#note(text))
    this.#child = child
    return child
  }
}

async function call(child: ChildProcess, message: HostCall): Promise<void> {
  const answered = new AbortController()
  try {
    const answer = once(child, 'message', { signal: answered.signal })
    const ended = once(child, 'exit', { signal: answered.signal }).then(() => [{ error: 'the process has ended' }])
    child.send(message)
    const [reply] = (await Promise.race([answer, ended])) as [HostReply]
    if (reply.error !== undefined) throw new Error(reply.error)
  } finally {
    answered.abort()
  }
}

function follow(child: ChildProcess, note: (text: string) => void): void {
  const write = (chunk: Buffer): void => note(chunk.toString())
  child.stdout?.on('data', write)
  child.stderr?.on('data', write)
  child.on('error', (error) => note(`${String(error)}\n`))
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null || child.pid === undefined
}
