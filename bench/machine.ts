import { readFileSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { run } from '../src/linux/exec.ts'

/** What a reader must know to judge the figures. */
export interface MachineFacts {
  readonly date: string
  readonly kernel: string
  readonly cpu: string
  readonly cpus: number
  /** Of cpufreq; `none`: the machine does not let us see (most virtual machines). */
  readonly governor: string
  /** What runs this machine, as its CPU says; empty on bare metal. */
  readonly hypervisor: string
  readonly memoryGb: number
  readonly node: string
  /** Of the programs that take part, as they say themselves; those that are missing are not named. */
  readonly versions: Readonly<Record<string, string>>
  /** Load average of the last minute, before the run. */
  readonly load: number
}

const programs: Readonly<Record<string, readonly string[]>> = {
  nft: ['nft', '--version'],
  'iptables-legacy': ['iptables-legacy', '--version'],
  'iptables-nft': ['iptables-nft', '--version'],
  iperf3: ['iperf3', '--version'],
}

/** Looks at the machine. */
export async function machineFacts(): Promise<MachineFacts> {
  const all = cpus()
  const versions: Record<string, string> = {}
  for (const [name, argv] of Object.entries(programs)) {
    const result = await run(argv, { timeout: 20_000 }).catch(() => undefined)
    const version = /\d+(?:\.\d+)+/.exec(result?.stdout ?? '')?.[0]
    if (version !== undefined) versions[name] = version
  }
  const cpuinfo = read('/proc/cpuinfo') ?? ''
  return {
    date: new Date().toISOString(),
    kernel: release(),
    cpu: all[0]?.model ?? 'unknown',
    cpus: all.length,
    governor: read('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor') ?? 'none',
    hypervisor: /^flags\s*:.*\bhypervisor\b/m.test(cpuinfo) ? (read('/sys/class/dmi/id/sys_vendor') ?? 'unknown') : '',
    memoryGb: Math.round(totalmem() / 1e9),
    node: process.versions.node,
    versions,
    load: Math.round((loadavg()[0] ?? 0) * 100) / 100,
  }
}

/** The machine in a line. */
export function formatMachine(machine: MachineFacts): string {
  const { kernel, cpus, cpu, governor, hypervisor, memoryGb, node, versions, load } = machine
  const tools = Object.entries(versions).map(([name, version]) => `${name} ${version}`)
  return [
    `kernel ${kernel}`,
    `${cpus} x ${cpu}`,
    `governor ${governor}`,
    ...(hypervisor === '' ? [] : [`virtual machine (${hypervisor})`]),
    `${memoryGb} GB`,
    `Node ${node}`,
    ...tools,
    `load before ${load}`,
  ].join(', ')
}

/** Why the machine is too busy to measure times on; undefined: it is not. */
export function whyTooBusy({ load, cpus }: MachineFacts): string | undefined {
  if (load <= cpus / 2) return undefined
  return `the load is ${load} on ${cpus} CPUs: times will be too long and their intervals wide; counts are right all the same`
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    // What a machine does not show is no fault.
    return undefined
  }
}
