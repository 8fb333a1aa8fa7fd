import { SharedMap } from '../base/shared-map.ts'
import type { Snapshot } from '../model/snapshot.ts'

type Slices = Snapshot['slices']

/** How many EndpointSlices and endpoints a snapshot has, counted by what changed since the last one: status is asked for often. */
export class SliceCounts {
  slices = 0
  endpoints = 0
  #counted: Slices = SharedMap.empty()

  /** Counts these now. Costs what differs from the last ones. */
  update(now: Slices): this {
    const before = this.#counted
    for (const key of SharedMap.changedKeys(before, now)) {
      this.#add(before.get(key), -1)
      this.#add(now.get(key), 1)
    }
    this.#counted = now
    return this
  }

  #add(slices: ReturnType<Slices['get']>, sign: 1 | -1): void {
    for (const slice of slices ?? []) {
      this.slices += sign
      this.endpoints += sign * slice.endpoints.length
    }
  }
}
