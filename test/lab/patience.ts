/**
 * How long to wait for what must happen, in milliseconds: `ms` on a machine, more where time is slower (FAIRLEAD_TIME_SCALE,
 * set by the guest of test/vm: emulation is about ten times slower). What is checked stays the same.
 */
export function patience(ms: number): number {
  return ms * Number(process.env['FAIRLEAD_TIME_SCALE'] ?? 1)
}
