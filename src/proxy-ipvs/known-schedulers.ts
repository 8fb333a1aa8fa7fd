import type { IpvsClient } from '../ipvs/client.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import { NetlinkRequestsError } from '../netlink/run-all.ts'

/** A mark that no packet has: one of ours, with the bit that stays free in all of them (second-views.ts). */
const probeAt = { mark: 0xf1af_ffff, family: 4 } as const

/** Which schedulers this kernel has: each is a module of its own, and what is not there would keep a whole virtual server away. */
export class KnownSchedulers {
  readonly #known = new Set<string>()
  readonly #missing = new Set<string>()

  get missing(): ReadonlySet<string> {
    return this.#missing
  }

  /** Takes note of some that are in use. */
  note(schedulers: Iterable<string>): void {
    for (const scheduler of schedulers) this.#known.add(scheduler)
  }

  /** Tries those that were not tried before, and returns what the kernel lacks of them. Throws NetlinkError. */
  async learn(ipvs: IpvsClient, schedulers: Iterable<string>): Promise<readonly string[]> {
    const lacking: string[] = []
    for (const scheduler of new Set(schedulers)) {
      if (this.#known.has(scheduler)) continue
      if (!(await isThere(ipvs, scheduler))) {
        lacking.push(scheduler)
        this.#missing.add(scheduler)
      }
      this.#known.add(scheduler)
    }
    return lacking
  }
}

/** Both commands are in one datagram, which the kernel works through at once: whoever is killed leaves nothing behind. */
async function isThere(ipvs: IpvsClient, scheduler: string): Promise<boolean> {
  try {
    await ipvs.run([
      { op: 'add-virtual', virtual: { at: probeAt, scheduler } },
      { op: 'delete-virtual', at: probeAt },
    ])
    return true
  } catch (error) {
    const errors: unknown[] = error instanceof NetlinkRequestsError ? error.errors : [error]
    if (errors.some((one) => isNetlinkError(one, 'ENOENT'))) return false
    // Somebody left one there; it is deleted now.
    if (errors.length === 1 && isNetlinkError(error, 'EEXIST')) return await isThere(ipvs, scheduler)
    throw error
  }
}
