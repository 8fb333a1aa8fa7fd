import { fork } from 'node:child_process'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { ReaderReport, ReaderTask } from './dns-changes-reader.ts'
import type { ChangesReport, ChangesTask } from './dns-changes-server.ts'
import { launcherFlags } from './launcher-flags.ts'
import { scriptBeside } from './script-beside.ts'
import { quantile } from './statistics.ts'

export interface ChangesResult {
  readonly changes: number
  /** Answers that were read, and of these: those of two states at once, those that went back in time, those that said anything else. */
  readonly answers: number
  readonly mixed: number
  readonly older: number
  readonly wrong: number
  readonly lost: number
  /** From the call of `update` in the server's process until an answer of each of the reader's sockets had the change, milliseconds. */
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** How many sockets read, each with its own port: all workers are read. */
const sockets = 8

/**
 * Endpoints of Services change `perSecond` times a second, every fourth change being of the Service that a thread of this process reads all the
 * while; nothing of it may ever be wrong. The server is a process of its own, as the daemon is.
 */
export async function measureChanges(task: ChangesTask): Promise<ChangesResult> {
  const server = fork(scriptBeside(import.meta.url, 'dns-changes-server'), { execArgv: [...launcherFlags] })
  try {
    const failed = once(server, 'exit').then(([code]): never => {
      throw new Error(`the DNS server ended with exit code ${code}`)
    })
    const next = async (message: ChangesTask | string): Promise<unknown> => {
      server.send(message)
      const [answer] = await Promise.race([once(server, 'message'), failed])
      return answer
    }
    const role: ReaderTask = { port: (await next(task)) as number, sockets }
    const reader = new Worker(scriptBeside(import.meta.url, 'dns-changes-reader'), { workerData: role })
    await once(reader, 'message')
    const { changes, updated } = (await next('begin')) as ChangesReport
    reader.postMessage('stop', [])
    const [report] = (await once(reader, 'message')) as [ReaderReport]
    await reader.terminate()
    const exited = once(server, 'exit')
    server.send('end')
    await exited
    const delays = report.firstSeen
      .flatMap((times) => times.map((time, generation) => time - (updated[generation] ?? 0)).slice(1))
      .toSorted((a, b) => a - b)
    const [p50, p99] = [0.5, 0.99].map((share) => quantile(delays, share)) as [number, number]
    return { ...report.counts, changes, p50, p99, max: delays.at(-1) ?? 0 }
  } finally {
    server.kill('SIGKILL')
  }
}
