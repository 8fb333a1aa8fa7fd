import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'

/** What tells this machine from others (machine-id(5)); the host name where there is no such file. */
export function readMachineId(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim() || hostname()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return hostname()
    throw error
  }
}
