/** A clock that is the same in all processes of the machine: milliseconds since boot (CLOCK_MONOTONIC). */
export function msSinceBoot(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
