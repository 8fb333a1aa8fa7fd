import type { IpvsClient } from '../ipvs/client.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'

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
      try {
        await ipvs.run([{ op: 'add-virtual', virtual: { at: probeAt, scheduler } }])
        await ipvs.run([{ op: 'delete-virtual', at: probeAt }])
      } catch (error) {
        if (!isNetlinkError(error, 'ENOENT')) throw error
        lacking.push(scheduler)
        this.#missing.add(scheduler)
      }
      this.#known.add(scheduler)
    }
    return lacking
  }
}
