import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { serviceModes } from '../../src/daemon/services-config.ts'
import { hasSctp } from '../../src/linux/sctp-socket.ts'
import { Agent } from '../lab/agent-client.ts'
import type { Flow, FlowCase } from './flow-case.ts'
import { CaseError } from './case-reader.ts'
import { parseCase } from './parse-case.ts'
import type { FlowResult } from './report.ts'
import { runCase, type RunOptions } from './run-case.ts'
import { ProxyHost, spawnProxy, type RunProxy } from './run-proxy.ts'
import type { World } from './world.ts'

/** The case files below paths, in order. Throws when a path does not exist. */
export function findCaseFiles(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    if (!statSync(path).isDirectory()) return [path]
    const names = readdirSync(path, { recursive: true, encoding: 'utf8' })
    return names
      .filter((name) => name.endsWith('.yaml'))
      .map((name) => join(path, name))
      .toSorted()
  })
}

/** The kinds of iptables tools. */
export const toolKinds = ['legacy', 'nft'] as const

export interface RunCasesOptions extends Omit<RunOptions, 'obstacle' | 'prepare' | 'agent' | 'run'> {
  /** The launcher of the fairlead that is tried; undefined: this checkout's, one daemon after the other in a process for each job. */
  readonly fairlead: string | undefined
  /** The kind of iptables tools that the node's kubelet uses; undefined: it has none, the proxy finds out itself. */
  readonly tools?: (typeof toolKinds)[number] | undefined
  /** Cases at a time. */
  readonly jobs: number
  /** Called with the results of a file when all of them are there, in the order of the files. */
  readonly onResults: (results: readonly FlowResult[]) => void
}

/** Runs case files, several at a time. A file that cannot be used is a failure that says where and why. */
export async function runCases(files: readonly string[], options: RunCasesOptions): Promise<FlowResult[]> {
  const obstacle = machineObstacle() ?? modeObstacle(options)
  const { tools } = options
  await using agent = await Agent.start()
  const prepare = tools && ((world: World) => hintTools(world, tools))
  const run = async (file: string, runProxy: RunProxy): Promise<FlowResult[]> => {
    let flowCase: FlowCase
    try {
      flowCase = parseCase(readFileSync(file, 'utf8'), file)
    } catch (error) {
      if (!(error instanceof CaseError)) throw error
      return error.problems.map(({ path, reason }) => malformed(file, path, reason))
    }
    return await collect(flowCase, {
      ...options,
      agent,
      run: runProxy,
      obstacle: (flow) => obstacle ?? flowObstacle(flow),
      ...(prepare && { prepare }),
    })
  }
  const results: FlowResult[][] = []
  let next = 0
  let shown = 0
  const work = async (): Promise<void> => {
    using host = new ProxyHost()
    const runProxy = options.fairlead === undefined ? host.run : spawnProxy(options.fairlead)
    for (let index = next++; index < files.length; index = next++) {
      results[index] = await run(files[index]!, runProxy)
      for (let done = results[shown]; done; done = results[++shown]) options.onResults(done)
    }
  }
  await Promise.all(Array.from({ length: Math.min(options.jobs, files.length) }, work))
  return results.flat()
}

/** Whatever goes wrong with one case, the others are run. */
async function collect(flowCase: FlowCase, options: RunOptions): Promise<FlowResult[]> {
  const results: FlowResult[] = []
  try {
    for await (const result of runCase(flowCase, options)) results.push(result)
  } catch (error) {
    const { file, title } = flowCase
    const seen = error instanceof Error ? (error.stack ?? error.message) : String(error)
    results.push({ result: 'not ok', file, title, step: undefined, flow: '', expected: 'to be run', seen })
  }
  return results
}

function malformed(file: string, path: string, reason: string): FlowResult {
  const where = path === '' ? '(whole file)' : path
  return {
    result: 'not ok',
    file,
    title: `malformed at ${where}`,
    step: undefined,
    flow: '',
    expected: 'a case',
    seen: reason,
  }
}

function machineObstacle(): string | undefined {
  return process.getuid?.() === 0 ? undefined : 'making network namespaces needs root'
}

function modeObstacle({ mode, tools }: Pick<RunCasesOptions, 'mode' | 'tools'>): string | undefined {
  if (!serviceModes.some((each) => each === mode)) return `fairlead has no mode ${mode}`
  if (mode !== 'iptables') return undefined
  const command = tools === undefined ? 'iptables' : `iptables-${tools}`
  return spawnSync(command, ['--version']).status === 0
    ? undefined
    : `${command} (Debian package iptables) is not installed`
}

/** As kubelet does: the chain says which kind of tools the node uses (KEP-3178). */
async function hintTools(world: World, tools: (typeof toolKinds)[number]): Promise<void> {
  for (const family of ['iptables', 'ip6tables']) {
    const argv = [`${family}-${tools}`, '-w', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']
    const { code, stderr } = await world.node.exec(argv)
    if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
  }
}

function flowObstacle(flow: Flow): string | undefined {
  return flow.protocol !== 'sctp' || hasSctp() ? undefined : 'the kernel has no SCTP'
}
