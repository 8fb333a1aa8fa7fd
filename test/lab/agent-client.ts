import { Worker } from 'node:worker_threads'
import type { Netns } from '../../src/linux/netns.ts'
import type { AgentCall, AgentReply } from './agent-protocol.ts'

/** The thread that makes the connections of a lab's hosts and listens for them; see agent.ts. */
export class Agent implements AsyncDisposable {
  readonly #worker: Worker
  readonly #pending = new Map<number, { resolve: (reply: AgentReply) => void; reject: (error: Error) => void }>()
  #nextId = 1

  private constructor(worker: Worker) {
    this.#worker = worker
    worker.on('message', ({ id, result, error }: { id: number; result?: AgentReply; error?: string }) => {
      const pending = this.#pending.get(id)
      this.#pending.delete(id)
      if (result) pending?.resolve(result)
      else pending?.reject(new Error(error ?? 'the agent gave no answer'))
    })
    worker.on('error', (error) => this.#fail(error))
    worker.on('exit', () => this.#fail(new Error('the agent has ended')))
  }

  static async start(): Promise<Agent> {
    // Its SCTP sockets are no descriptors that Node opened.
    const worker = new Worker(new URL('agent.ts', import.meta.url), { trackUnmanagedFds: false })
    const agent = new Agent(worker)
    await new Promise<void>((resolve, reject) => {
      agent.#pending.set(0, { resolve: () => resolve(), reject })
    })
    // Only calls under way keep the process alive.
    worker.unref()
    return agent
  }

  /** Does it in a namespace: sockets stay in the one that they are made in. */
  call(netns: Netns, call: AgentCall): Promise<AgentReply> {
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#worker.ref()
      const settle = (): void => {
        if (this.#pending.size === 0) this.#worker.unref()
      }
      this.#pending.set(id, {
        resolve: (reply) => {
          settle()
          resolve(reply)
        },
        reject: (error) => {
          settle()
          reject(error)
        },
      })
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker thread has no origin
      this.#worker.postMessage({ id, netnsFd: netns.fd, call })
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate()
  }

  #fail(error: Error): void {
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    for (const { reject } of pending) reject(error)
  }
}
