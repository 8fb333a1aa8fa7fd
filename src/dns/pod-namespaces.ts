import { isIP } from 'node:net'
import { SharedMap } from '../base/shared-map.ts'
import type { Pod } from '../model/pod.ts'
import { emptySnapshot, type Snapshot } from '../model/snapshot.ts'
import { type IpAddress, parseIp } from '../net/ip-address.ts'
import type { NameStage } from './resolve.ts'

/** The namespace of the pod that has an address. An update costs what changed. */
export class PodNamespaces implements NameStage {
  /** By address: how many pods of each namespace have it. */
  readonly #namespaces = new Map<IpAddress, Map<string, number>>()
  #snapshot: Snapshot = emptySnapshot

  /** Answers nothing itself: it stands among the stages to hear of snapshots. */
  answer(): undefined {
    return undefined
  }

  /** Never a name of any zone. */
  touches(): boolean {
    return false
  }

  update(snapshot: Snapshot): void {
    const before = this.#snapshot.pods
    this.#snapshot = snapshot
    for (const key of SharedMap.changedKeys(before, snapshot.pods)) {
      this.#count(before.get(key), -1)
      this.#count(snapshot.pods.get(key), 1)
    }
  }

  /**
   * Undefined when no pod has the address, or pods of several namespaces: with whoever has it there is nothing to be sure of. `client`
   * is an address as a socket says it.
   */
  namespaceOf(client: string): string | undefined {
    if (isIP(client) === 0 || client.includes('%')) return undefined
    const namespaces = this.#namespaces.get(parseIp(client))
    return namespaces?.size === 1 ? [...namespaces.keys()][0] : undefined
  }

  #count(pod: Pod | undefined, change: number): void {
    // A pod in the node's network has the node's address, and a finished one has given its own back.
    if (!pod || pod.hostNetwork || pod.phase === 'Succeeded' || pod.phase === 'Failed') return
    for (const ip of pod.podIPs) {
      const namespaces = this.#namespaces.get(ip) ?? new Map<string, number>()
      const count = (namespaces.get(pod.namespace) ?? 0) + change
      if (count > 0) namespaces.set(pod.namespace, count)
      else namespaces.delete(pod.namespace)
      if (namespaces.size > 0) this.#namespaces.set(ip, namespaces)
      else this.#namespaces.delete(ip)
    }
  }
}
