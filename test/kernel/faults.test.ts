import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import { parseJournal } from '../../src/bridge/leases.ts'
import { run } from '../../src/linux/exec.ts'
import { createAnonymousNetns, deleteNetns, listNetns, type Netns } from '../../src/linux/netns.ts'
import { openBridgePart } from './bridge-part.ts'
import type { MortalPodOptions } from './mortal-pod.ts'

const mortalPod = fileURLToPath(new URL('mortal-pod.ts', import.meta.url))

/** Hosts at which every so manieth step is tried, at the same time. */
const lanes = 4

const stack = new AsyncDisposableStack()
afterEach(() => stack.disposeAsync())

test(
  'attach, a change of ports, disconnect and detach, killed (SIGKILL) at any step, leave nothing behind for a new daemon',
  { timeout: 240_000 },
  async () => {
    const cache = mkdtempSync(join(tmpdir(), 'fairlead-faults-code-'))
    stack.defer(() => rmSync(cache, { recursive: true, force: true }))
    const first = await Host.make('all', cache)
    // This one gets to the end: it tells the steps, and writes down the compiled code for all that come.
    const steps = (await first.dieAt(Infinity)) ?? []
    await first.expectNothingLeft('not killed')
    await Promise.all(
      Array.from({ length: lanes }, async (_, lane) => {
        const host = await Host.make(`${lane}`, cache)
        for (let step = lane; step < steps.length; step += lanes) {
          expect(await host.dieAt(step), `steps of a process that should have died at step ${step}`).toBeUndefined()
          await host.expectNothingLeft(`killed at step ${step}: ${steps[step]}`)
        }
      }),
    )
    process.stdout.write(`fault injection: killed at each of ${steps.length} steps:\n  ${steps.join('\n  ')}\n`)
    expect(steps.length).toBeGreaterThan(40)
  },
)

/** A namespace that plays a host, and the daemon's part that dies on it. */
class Host {
  readonly #netns: Netns
  readonly #options: MortalPodOptions
  readonly #cache: string
  #before: unknown
  #next: ChildProcess
  /** The one that is at work, which a test that failed must not leave behind. */
  #current: ChildProcess | undefined

  private constructor(lane: string, cache: string) {
    this.#cache = cache
    this.#netns = stack.use(createAnonymousNetns())
    const stateDir = mkdtempSync(join(tmpdir(), 'fairlead-faults-'))
    stack.defer(() => rmSync(stateDir, { recursive: true, force: true }))
    const netnsPrefix = `flfault-${process.pid}-${lane}-`
    // Known by its time, whatever namespace it is in.
    const command = ['sleep', `${process.pid}.${lane === 'all' ? 9 : lane}`]
    this.#options = { netns: this.#netns.path, stateDir, netnsPrefix, command }
    this.#next = this.#start()
    stack.defer(async () => {
      await Promise.all([this.#current, this.#next].map(ended))
      for (const pid of this.#commands()) process.kill(pid, 'SIGKILL')
      for (const name of this.#namespaces()) deleteNetns(name)
    })
  }

  static async make(lane: string, cache: string): Promise<Host> {
    const host = new Host(lane, cache)
    // Ports are published at 127.0.0.1 too.
    await run(['ip', 'link', 'set', 'lo', 'up'], { netns: host.#netns })
    await (await host.#open())[Symbol.asyncDispose]()
    host.#before = await host.#traces()
    return host
  }

  /** Makes, changes and removes a pod, and dies at a step. Resolves with all steps when there were not so many. */
  async dieAt(step: number): Promise<readonly string[] | undefined> {
    const child = (this.#current = this.#next)
    // The next one can get ready meanwhile.
    this.#next = this.#start()
    let output = ''
    child.stdout?.on('data', (chunk) => (output += String(chunk)))
    const ending = new Promise<string>((resolve) => child.once('close', (code, signal) => resolve(signal ?? `${code}`)))
    // One that cannot even start says why on its standard error, and by its exit code.
    child.stdin?.on('error', () => {})
    child.stdin?.end(`${step}\n`)
    const end = await ending
    if (end === 'SIGKILL') return undefined
    expect(end, `end of the process that was to die at step ${step}`).toBe('0')
    return JSON.parse(output) as string[]
  }

  /** A new daemon starts. A pod that was whole lives on, whole, and can be removed; of any other there is no trace. */
  async expectNothingLeft(when: string): Promise<void> {
    {
      await using part = await this.#open()
      const [pod] = part.pods.list()
      if (pod) {
        expect(await part.networks.reconcile(), `what is missing of a whole pod, ${when}`).toEqual([])
        await part.pods.remove(pod.namespace, pod.name)
      }
    }
    expect(await this.#traces(), when).toEqual(this.#before)
  }

  #open(): ReturnType<typeof openBridgePart> {
    return openBridgePart({ ...this.#options, netns: this.#netns })
  }

  #start(): ChildProcess {
    return spawn(process.execPath, [mortalPod, JSON.stringify(this.#options)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, NODE_COMPILE_CACHE: this.#cache },
    })
  }

  async #traces(): Promise<unknown> {
    const { stateDir } = this.#options
    const output = async (...argv: string[]): Promise<string> => (await run(argv, { netns: this.#netns })).stdout
    return {
      links: (await output('ip', '-o', 'link')).match(/(?<=^\d+: )[^:]+/gm),
      // A bridge has a link-local one from its first port on.
      addresses: (await output('ip', '-o', 'addr')).match(/(?<= inet6? )(?!fe80:)\S+/g),
      routes: (await output('ip', 'route')).replaceAll(' linkdown', ''),
      tables: await output('nft', '-s', 'list', 'ruleset'),
      namespaces: this.#namespaces(),
      processes: this.#commands(),
      files: new Set(readdirSync(stateDir, { recursive: true, encoding: 'utf8' })),
      leases: [...parseJournal(readFileSync(join(stateDir, 'leases'), 'utf8')).leases.keys()],
    }
  }

  #namespaces(): string[] {
    return listNetns().filter((name) => name.startsWith(this.#options.netnsPrefix))
  }

  /** Processes of the pod's command, the shell above it included. */
  #commands(): number[] {
    const [, time = ''] = this.#options.command
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(time)
        } catch {
          return false
        }
      })
  }
}

async function ended(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return
  const exit = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await exit
}
