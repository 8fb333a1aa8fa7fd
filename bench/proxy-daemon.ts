import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { callDaemon } from '../src/cli/control-client.ts'
import type { StatusView } from '../src/daemon/control-api.ts'
import { run } from '../src/linux/exec.ts'
import type { Netns } from '../src/linux/netns.ts'
import type { Contender } from './contender-names.ts'
import type { ProxyMode } from './modes.ts'
import { stopAtExit } from './stop-at-exit.ts'
import { clientNetwork } from './traffic-lab.ts'

/** A daemon that runs in a node's namespace. */
export interface ProxyDaemon extends Contender {
  readonly pid: number
  status(): Promise<StatusView>
}

/** What a daemon is started with. */
export interface ProxyDaemonOptions {
  readonly mode: ProxyMode
  readonly netns: Netns
  /** Its state and log go here. */
  readonly folder: string
  /** Sources as the configuration has them: `{files: [DIR]}`, `{kubernetes: {kubeconfig: FILE}}`. */
  readonly sources: object
  /** Until its first sync, ms. */
  readonly startLimitMs: number
  readonly signal: AbortSignal
}

/** Starts the daemon in a mode, and waits until everything is in the kernel. Throws with the end of its log. */
export async function startProxyDaemon(options: ProxyDaemonOptions): Promise<ProxyDaemon> {
  const { mode, netns, folder, sources, startLimitMs, signal } = options
  mkdirSync(folder, { recursive: true })
  const socket = join(folder, 'control.sock')
  const config = {
    nodeName: 'node-1',
    stateDir: join(folder, 'state'),
    controlSocket: socket,
    sources,
    api: { enabled: false },
    network: { enabled: false },
    dns: { enabled: false },
    services: { mode: mode.replace(/-.*/, ''), clusterCIDRs: ['10.128.0.0/9', clientNetwork] },
    http: { enabled: false },
  }
  const file = join(folder, 'fairlead.yaml')
  writeFileSync(file, JSON.stringify(config))
  if (mode.startsWith('iptables-')) await hintTools(netns, mode)
  const logFile = join(folder, 'daemon.log')
  const log = openSync(logFile, 'a')
  const child = netns.enter(() => spawn(launcher(), ['run', '--config', file], { stdio: ['ignore', log, log] }))
  closeSync(log)
  const forget = stopAtExit(() => void child.kill('SIGKILL'))
  const daemon: ProxyDaemon = {
    pid: child.pid ?? 0,
    status: () => callDaemon<StatusView>(socket, 'GET', '/status'),
    ended: () => {
      const code = child.signalCode ?? child.exitCode
      return code === null
        ? undefined
        : `the daemon ended (${code}): ${readFileSync(logFile, 'utf8').slice(-1000).trim()}`
    },
    async [Symbol.asyncDispose]() {
      forget()
      await end(child)
    },
  }
  try {
    const deadline = performance.now() + startLimitMs
    for (;;) {
      signal.throwIfAborted()
      const ended = daemon.ended()
      if (ended !== undefined) throw new Error(ended)
      const status = await daemon.status().catch(() => undefined)
      if (status?.ready === true && status.services?.firstSync) return daemon
      if (performance.now() > deadline) throw new Error(`no first sync after ${startLimitMs / 1000} s`)
      await sleep(50)
    }
  } catch (error) {
    await daemon[Symbol.asyncDispose]()
    throw error
  }
}

/** The launcher of this installation: in a checkout two folders up are one. */
export function launcher(): string {
  const { FAIRLEAD_LAUNCHER } = process.env
  return FAIRLEAD_LAUNCHER ?? fileURLToPath(new URL('../bin/fairlead', import.meta.url))
}

/** As kubelet does: whoever looks for the kind of tools that a machine uses finds this chain (KEP-3178). */
async function hintTools(netns: Netns, mode: ProxyMode): Promise<void> {
  for (const program of [mode, mode.replace('ip', 'ip6')]) {
    const { code, stderr } = await run([program, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT'], { netns })
    if (code !== 0) throw new Error(`${program}: ${stderr.trim()}`)
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}
