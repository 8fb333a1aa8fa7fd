import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { spawnIn } from '../src/linux/exec.ts'
import type { Contender } from './contender-names.ts'
import type { Peer } from './options.ts'
import { stopAtExit } from './stop-at-exit.ts'
import type { TrafficLab, TrafficNode } from './traffic-lab.ts'
import { clientNetwork } from './traffic-lab.ts'

/** What a peer is started with. */
export interface StartPeer {
  readonly lab: TrafficLab
  readonly lane: TrafficNode
  /** It may write there. */
  readonly folder: string
  readonly kubeconfig: string
  /** A Service that must answer before the peer counts as ready. */
  readonly probe: { readonly ip: string; readonly port: number }
  readonly startLimitMs: number
  readonly signal: AbortSignal
}

/**
 * Starts an external proxy in a node's namespace by the protocol of bench/README.md, and waits until the probe is answered. Throws with the
 * end of what it said.
 */
export async function startPeer({ name, command }: Peer, options: StartPeer): Promise<Contender> {
  const { lab, lane, folder, kubeconfig, probe, startLimitMs, signal } = options
  mkdirSync(folder, { recursive: true })
  const logFile = join(folder, 'peer.log')
  const log = openSync(logFile, 'a')
  const child = spawnIn(lane.node, ['sh', '-c', command], {
    cwd: folder,
    stdio: ['ignore', log, log],
    env: {
      ...process.env,
      KUBECONFIG: kubeconfig,
      NODE_NAME: 'node-1',
      // With the clients, which count as pods.
      CLUSTER_CIDR: clientNetwork,
      SERVICE_CIDR: '10.96.0.0/12',
      PEER_FOLDER: folder,
    },
  })
  closeSync(log)
  const forget = stopAtExit(() => endAllIn(lane, 'SIGKILL'))
  const lastWords = (): string =>
    readFileSync(logFile, 'utf8').trim().split('\n').slice(-3).join('; ') || 'it said nothing'
  const peer: Contender = {
    ended: () => {
      const code = child.signalCode ?? child.exitCode
      const how = typeof code === 'string' ? `by ${code}` : `with exit code ${code}`
      return code === null ? undefined : `peer ${name} ended ${how}: ${lastWords()}`
    },
    async [Symbol.asyncDispose]() {
      forget()
      endAllIn(lane, 'SIGTERM')
      for (let left = 50; left > 0 && processesIn(lane).length > 0; left--) await sleep(100)
      endAllIn(lane, 'SIGKILL')
    },
  }
  try {
    const deadline = performance.now() + startLimitMs
    const netns = lane.client.path
    for (;;) {
      signal.throwIfAborted()
      const { connectNs } = await lab.ask({
        kind: 'connect',
        netns,
        protocol: 'tcp',
        ...probe,
        count: 1,
        timeoutMs: 500,
      })
      if (connectNs.length > 0) return peer
      const ended = peer.ended()
      if (ended !== undefined) throw new Error(ended)
      if (performance.now() > deadline)
        throw new Error(
          `peer ${name}: ${probe.ip}:${probe.port} does not answer after ${startLimitMs / 1000} s: ${lastWords()}`,
        )
      await sleep(100)
    }
  } catch (error) {
    await peer[Symbol.asyncDispose]()
    throw error
  }
}

/** Everything that runs in a node's namespace was started there by the peer: nothing else is in it. */
function endAllIn(lane: TrafficNode, signal: NodeJS.Signals): void {
  for (const pid of processesIn(lane)) {
    try {
      process.kill(pid, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

/** The processes in a node's namespace. */
export function processesIn({ node }: TrafficNode): number[] {
  const { inode } = node
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && netnsInode(name) === inode)
    .map(Number)
}

/** Undefined for a process that is gone, or that even root may not look into. */
function netnsInode(pid: string): number | undefined {
  try {
    return statSync(`/proc/${pid}/ns/net`).ino
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (['ENOENT', 'ESRCH', 'EACCES'].includes(code)) return undefined
    throw error
  }
}
