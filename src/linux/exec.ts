import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import { Readable, type Writable } from 'node:stream'
import { setSendBuffer, socketPair } from './libc.ts'
import type { Netns } from './netns.ts'

/** What a program that ended left. */
export interface RunResult {
  /** Null when a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  /** The network namespace to run it in. */
  readonly netns?: Netns
  /**
   * Given to its standard input, which is empty otherwise. Of pieces, the next is taken when there is room for it; that input is a socket,
   * so the program cannot open `/dev/stdin`.
   */
  readonly input?: string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>
  /** Milliseconds until it is killed and the call fails. */
  readonly timeout?: number
  /** Its whole environment. Default: this process's. */
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  readonly signal?: AbortSignal
}

/** A program that could not be started, or was stopped by its timeout or abort signal. */
export class RunError extends Error {
  override readonly name = 'RunError'
  readonly argv: readonly string[]
  /** `ENOENT`: there is no such program; `ETIMEDOUT`; `ABORT_ERR`. */
  readonly code: string | undefined

  constructor(argv: readonly string[], reason: string, code: string | undefined, options?: ErrorOptions) {
    super(`cannot run ${argv.join(' ')}: ${reason}`, options)
    this.argv = argv
    this.code = code
  }
}

/**
 * Runs a program to its end, without a shell. A non-zero exit code is a result, not an error. Throws {@link RunError}
 * when it could not be started or had to be stopped.
 */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { input, timeout, signal, netns, env, cwd } = options
  if (signal?.aborted) throw new RunError(argv, 'aborted', 'ABORT_ERR', { cause: signal.reason })
  const pieces = input === undefined || typeof input === 'string' || input instanceof Uint8Array ? undefined : input
  const spawnOptions = { ...(env && { env }), ...(cwd !== undefined && { cwd }) }
  const { child, stdin } = pieces
    ? spawnWithRoom(netns, argv, spawnOptions)
    : withStdin(spawnIn(netns, argv, { stdio: 'pipe', ...spawnOptions }))
  return await new Promise<RunResult>((resolve, reject) => {
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    let stopped: RunError | undefined
    const stop = (error: RunError): void => {
      stopped ??= error
      child.kill('SIGKILL')
    }
    const timer =
      timeout && setTimeout(() => stop(new RunError(argv, `not done in ${timeout} ms`, 'ETIMEDOUT')), timeout)
    const onAbort = (): void => stop(new RunError(argv, 'aborted', 'ABORT_ERR', { cause: signal?.reason }))
    signal?.addEventListener('abort', onAbort, { once: true })
    const settle = (): void => {
      if (timer) clearTimeout(timer)
      stdin?.destroy()
      signal?.removeEventListener('abort', onAbort)
    }
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.on('error', (error: NodeJS.ErrnoException) => {
      settle()
      reject(
        new RunError(argv, error.code === 'ENOENT' ? 'no such program' : error.message, error.code, { cause: error }),
      )
    })
    child.on('close', (code, signalName) => {
      settle()
      if (stopped) return reject(stopped)
      resolve({
        code,
        signal: signalName,
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      })
    })
    // A program that ends without reading its input is no failure: EPIPE says only that.
    stdin?.on('error', () => {})
    if (!pieces) stdin?.end(input)
    else if (stdin) feed(stdin, pieces, (cause) => stop(new RunError(argv, cause.message, undefined, { cause })))
  })
}

interface Spawned {
  readonly child: ChildProcess
  readonly stdin: Writable | null
}

function withStdin(child: ChildProcess): Spawned {
  return { child, stdin: child.stdin }
}

/**
 * What waits in the kernel for a program that reads pieces, bytes. Node's own pipe has room for some 0.1 MB, and says that there is some
 * when three quarters were read: a program that reads fast waits again and again until the next piece is made.
 */
const inputRoom = 4 * 1024 * 1024

function spawnWithRoom(netns: Netns | undefined, argv: readonly string[], options: SpawnOptions): Spawned {
  const [ours, theirs] = socketPair()
  let stdin: Socket | undefined
  try {
    setSendBuffer(ours, inputRoom)
    stdin = new Socket({ fd: ours, readable: false, writable: true })
    return { child: spawnIn(netns, argv, { stdio: [theirs, 'pipe', 'pipe'], ...options }), stdin }
  } catch (error) {
    if (stdin) stdin.destroy()
    else closeSync(ours)
    throw error
  } finally {
    closeSync(theirs)
  }
}

/** Writes piece by piece. What makes a piece fails as the program would. */
function feed(
  into: Writable,
  pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  stop: (cause: Error) => void,
): void {
  const source = Readable.from(pieces, { highWaterMark: 1 })
  source.on('error', stop)
  // A program that ends early leaves pieces that nobody wants.
  into.on('close', () => source.destroy())
  source.pipe(into)
}

/** Starts a program in a network namespace (or in this one) without a shell. It inherits the calling thread's namespace. */
export function spawnIn(
  netns: Netns | undefined,
  argv: readonly string[],
  options: Omit<SpawnOptions, 'shell'> = {},
): ChildProcess {
  const [program, ...rest] = argv
  if (program === undefined) throw new RangeError('cannot run an empty command')
  const start = (): ChildProcess => spawn(program, rest, options)
  return netns ? netns.enter(start) : start()
}
