import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { writeKubeconfig } from '../src/api/credentials.ts'
import type { PlaneChanged, PlaneReady, PlaneTask } from './api-plane-task.ts'
import { scriptBeside } from './script-beside.ts'
import { mostNodes, type TrafficLab, type TrafficNode } from './traffic-lab.ts'

/** The API server of a run: all nodes follow it, each by its own cable. */
export class ControlPlane implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #folder: string
  readonly #port: number
  readonly #ready: PlaneReady

  private constructor(
    child: ChildProcess,
    options: { readonly folder: string; readonly port: number; readonly ready: PlaneReady },
  ) {
    this.#child = child
    this.#folder = options.folder
    this.#port = options.port
    this.#ready = options.ready
    // That nothing can be sent to a process that is gone; change() says that it is.
    child.on('error', () => {})
  }

  /** Starts it beside the backends with the objects of a folder of manifests. Several need a port each. */
  static async open(
    lab: TrafficLab,
    options: { readonly folder: string; readonly manifests: string; readonly port?: number },
  ): Promise<ControlPlane> {
    const { folder, manifests, port = 6443 } = options
    mkdirSync(folder, { recursive: true })
    const addresses = Array.from({ length: mostNodes }, (_, number) => `172.17.${number}.2`)
    const child = lab.backend.enter(() =>
      fork(scriptBeside(import.meta.url, 'api-plane'), [folder, manifests, String(port), ...addresses], {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      }),
    )
    try {
      return new ControlPlane(child, { folder, port, ready: await answer<PlaneReady>(child) })
    } catch (error) {
      child.kill('SIGKILL')
      throw error
    }
  }

  /** Writes the kubeconfig that leads a node here, and returns its path. */
  kubeconfigFor({ apiAddress }: TrafficNode): string {
    const file = join(this.#folder, `kubeconfig-${apiAddress}`)
    const { authority, token } = this.#ready
    writeKubeconfig(file, { url: `https://${apiAddress}:${this.#port}`, authority, token })
    return file
  }

  /** Updates the objects of a file of manifests; resolves with when watchers had them. */
  async change(file: string): Promise<PlaneChanged> {
    const task: PlaneTask = { file }
    if (hasEnded(this.#child)) throw new Error(endedText)
    this.#child.send(task)
    return await answer<PlaneChanged>(this.#child)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (hasEnded(this.#child)) return
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }
}

const endedText = 'the API server of the benchmark ended'

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}

async function answer<T>(child: ChildProcess): Promise<T> {
  const stop = new AbortController()
  try {
    const [message] = (await Promise.race([
      once(child, 'message', { signal: stop.signal }),
      once(child, 'exit', { signal: stop.signal }).then(() => Promise.reject(new Error(endedText))),
    ])) as [T]
    return message
  } finally {
    stop.abort()
  }
}
