import { readdirSync, readFileSync } from 'node:fs'

/** CPU time since boot, in ticks of 10 ms over all CPUs. */
export interface CpuTime {
  readonly total: number
  /** Time in which somebody computed here: idle time and what the hypervisor took are not in it. */
  readonly busy: number
  /** What the hypervisor gave to others. */
  readonly steal: number
  /** Of busy: this process, and those that it started (its process group), as far as they live or were waited for. */
  readonly own: number
}

/** Reads /proc/stat and the processes of our group (proc(5)). */
export function readCpuTime(): CpuTime {
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = (
    /^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? ''
  )
    .split(' ')
    .map(Number)
  const busy = user + nice + system + irq + softirq
  return { total: busy + idle + iowait + steal, busy, steal, own: ownTicks() }
}

/** The CPU time of processes, in ticks; those that are gone have none. */
export function ticksOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const fields = statOf(String(pid))
    return sum + Number(fields?.[11] ?? 0) + Number(fields?.[12] ?? 0)
  }, 0)
}

function ownTicks(): number {
  const group = statOf('self')?.[2]
  let ticks = 0
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const fields = statOf(name)
    if (fields?.[2] !== group) continue
    // utime, stime, and those of children that ended
    for (const field of fields?.slice(11, 15) ?? []) ticks += Number(field)
  }
  return ticks
}

/** The fields of /proc/PID/stat after the name: state, parent, process group and so on; undefined when it is gone. */
function statOf(pid: string): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return undefined
    throw error
  }
}
