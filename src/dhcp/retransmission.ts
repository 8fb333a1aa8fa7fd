/** Seconds between the first messages of an exchange that nobody answers, and all further ones (RFC 2131, 4.1). */
const steps = [4, 8, 16, 32, 64]

/** Renewing is repeated at most once a minute (RFC 2131, 4.4.5). */
const shortestRenewDelay = 60_000

/** Milliseconds until a message is sent again: `attempt` counts from 0, `random` is from 0 to 1 and spreads by a second. */
export function retransmitDelay(attempt: number, random: number): number {
  const seconds = steps[Math.min(attempt, steps.length - 1)] ?? 64
  return (seconds - 1 + 2 * random) * 1000
}

/** The same while renewing or rebinding: half of the time that remains until `remaining` milliseconds are over. */
export function renewDelay(remaining: number): number {
  return Math.min(remaining, Math.max(shortestRenewDelay, remaining / 2))
}
