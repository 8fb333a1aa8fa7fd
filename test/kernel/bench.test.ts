import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { BenchResults } from '../../bench/results.ts'
import { run } from '../../src/linux/exec.ts'
import { patience } from '../lab/patience.ts'

const timeout = patience(120_000)

async function bench(
  folder: string,
  ...words: string[]
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return await run([process.execPath, 'bench/main.ts', '--force', '--out', folder, ...words], {
    timeout,
    env: { ...process.env, TMPDIR: folder },
  })
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'bench-test-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }))
  return folder
}

describe('bench/main.ts', () => {
  test.each([
    { words: ['conect'], message: 'unknown suite conect: expected connect, program' },
    { words: ['--modes', 'ebpf'], message: '--modes ebpf: expected nftables' },
    { words: ['--services', '1000000'], message: 'what the address plan has room for' },
    { words: ['--compare', 'package.json'], message: 'no schema (expected fairlead-bench/1' },
    { words: ['--out', 'package.json', '--modes', 'direct'], message: '--out package.json: cannot write there' },
  ])('refuses $words before anything starts', { timeout }, async ({ words, message }) => {
    const folder = newFolder()
    const { code, stdout, stderr } = await bench(folder, ...words)
    expect(stderr).toContain(message)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(readdirSync(folder)).toEqual([])
  })

  test('measures a peer beside direct connections, and goes on where another one fails', { timeout }, async () => {
    const folder = newFolder()
    // A stand-in that speaks the protocol of bench/README.md: a daemon with a configuration of its own.
    const config = {
      nodeName: '$NODE_NAME',
      stateDir: '$PEER_FOLDER/state',
      controlSocket: '$PEER_FOLDER/control.sock',
      sources: { kubernetes: { kubeconfig: '$KUBECONFIG' } },
      api: { enabled: false },
      network: { enabled: false },
      dns: { enabled: false },
      http: { enabled: false },
      services: { clusterCIDRs: ['$CLUSTER_CIDR'] },
    }
    const quoted = JSON.stringify(config).replaceAll('"', '\\"')
    const standIn = `stand-in=echo "${quoted}" > config.yaml; exec ${process.cwd()}/bin/fairlead run --config config.yaml`
    const words = ['connect', '--modes', 'direct', '--services', '20', '--rounds', '2', '--start-limit', '60']
    const { code, stderr } = await bench(
      folder,
      ...words,
      '--peer',
      standIn,
      '--peer',
      'broken=echo it does not start; exit 3',
    )
    expect(stderr).toContain('report.html')
    expect(code).toBe(1)

    const results = JSON.parse(readFileSync(join(folder, 'results.json'), 'utf8')) as BenchResults
    const [connect] = results.suites
    expect(connect?.failures).toEqual([
      { what: 'broken, 20 Services', reason: 'peer broken ended with exit code 3: it does not start' },
    ])
    const measured = connect?.series.filter(({ figure }) => figure === 'time to first byte') ?? []
    for (const mode of ['direct', 'stand-in']) {
      const last = measured.find((one) => one.mode === mode && one.labels?.['target'] === 'last Service')
      expect(last?.raw?.map((samples) => samples.length)).toEqual([20, 20])
    }
    expect(readdirSync(folder).toSorted()).toEqual(['report.html', 'results.json', 'summary.md'])
  })

  test('leaves nothing behind after Ctrl-C but what was measured until then', { timeout }, async () => {
    const folder = newFolder()
    const words = ['connect', '--modes', 'nftables', '--services', '200', '--rounds', '10000', '--force']
    const child = spawn(process.execPath, ['bench/main.ts', ...words, '--out', folder], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, TMPDIR: folder },
      detached: true,
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    await until(child, /round (?:[6-9]|\d\d+) of/)
    expect(processesBelow(child.pid ?? 0)).toHaveLength(3)
    const started = processesBelow(child.pid ?? 0)
    // A machine that stalls: some answers are late, which ends nothing.
    const server = Number(started.find((pid) => commandOf(pid).includes('traffic-server')))
    process.kill(server, 'SIGSTOP')
    await sleep(1200)
    process.kill(server, 'SIGCONT')
    await until(child, /round \d+ of/)
    await until(child, /round \d+ of/)
    // A terminal sends it to the whole group, and npm passes it on: one Ctrl-C, not two.
    process.kill(-(child.pid ?? 0), 'SIGINT')
    child.kill('SIGINT')
    const [code] = (await once(child, 'exit')) as [number | null]
    expect(code).toBe(130)
    expect(readdirSync(folder).toSorted()).toEqual(['report.html', 'results.json', 'summary.md'])
    const { suites } = JSON.parse(readFileSync(join(folder, 'results.json'), 'utf8')) as BenchResults
    expect(suites.map(({ failures }) => failures)).toEqual([[{ what: 'connect', reason: 'stopped by the user' }]])
    const connections = suites[0]?.series.find(({ figure }) => figure === 'time to first byte')
    expect(connections?.values.length).toBeGreaterThan(4)
    const late = suites[0]?.series.find(({ figure }) => figure === 'not answered within a second')
    expect(Math.max(...(late?.values ?? []))).toBeGreaterThan(0)
    expect(started.filter((pid) => readdirSync('/proc').includes(pid))).toEqual([])
  })

  test(
    'goes on without a mode whose daemon died; what a killed run left is removed by the next',
    { timeout },
    async () => {
      const folder = newFolder()
      const words = ['connect', '--modes', 'nftables,userspace', '--services', '20', '--rounds', '10000', '--force']
      const child = spawn(process.execPath, ['bench/main.ts', ...words, '--out', folder], {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: { ...process.env, TMPDIR: folder },
      })
      onTestFinished(() => void child.kill('SIGKILL'))
      await until(child, /round \d+ of/)
      const daemonOf = (mode: string): string =>
        processesBelow(child.pid ?? 0).find((pid) => commandOf(pid).includes(`/${mode}/fairlead.yaml`)) ?? ''
      const left = daemonOf('userspace')
      // Its rules stay, and traffic flows: nothing but a look at the daemon shows it.
      process.kill(Number(daemonOf('nftables')), 'SIGKILL')
      await until(child, /FAILED: nftables, 20 Services, all sizes: the daemon ended \(SIGKILL\)/)
      await until(child, /round \d+ of/)
      child.kill('SIGKILL')
      await once(child, 'exit')
      expect(commandOf(left)).toContain('fairlead.yaml')

      const { code } = await bench(folder, 'connect', '--modes', 'direct', '--services', '5', '--rounds', '1')
      expect(code).toBe(0)
      // Gone, or a zombie where nobody waits for orphans.
      expect(commandOf(left)).toBe('')
      expect(readdirSync(folder).filter((name) => name.startsWith('flbench-'))).toEqual([])
    },
  )
})

test.skipIf(process.env['FAIRLEAD_GUEST'] === '1')(
  'counted work does not grow (bench/baseline.json; skipped in the guest)',
  { timeout: patience(500_000) },
  async () => {
    const { code, stdout } = await run([process.execPath, 'bench/check.ts'], { timeout: patience(490_000) })
    expect(stdout).toMatch(/\d\d+ counts as in the baseline, 0 grown, 0 gone/)
    expect(code).toBe(0)
  },
)

/** Resolves when it said something. The stream stays open: a process whose error stream is gone ends by that. */
async function until(child: ChildProcess, text: RegExp): Promise<void> {
  let said = ''
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on('data', (chunk: Buffer) => {
      said += String(chunk)
      if (text.test(said)) resolve()
    })
    child.once('exit', () => reject(new Error(`it ended: ${said}`)))
  })
}

/** How a process was started; empty for one that is gone. */
function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

/** Its children: client, server and daemon. */
function processesBelow(parent: number): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent
      } catch {
        // It ended meanwhile.
        return false
      }
    })
}
