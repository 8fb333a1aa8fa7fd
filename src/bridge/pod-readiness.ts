import type { Clock } from '../base/clock.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { ProbeLoop, type Readiness } from '../probes/probe-loop.ts'
import { runProbe } from '../probes/run-probe.ts'
import { hostNetwork } from './built-in-networks.ts'
import type { Lease } from './leases.ts'
import { podOwner, type Owner } from './names.ts'
import type { PodRecord } from './pod-record.ts'

/** What a {@link PodReadiness} needs. */
export interface PodReadinessOptions {
  readonly clock: Clock
  /** Called when a pod became ready, or not ready. */
  readonly onChange: (pod: PodRecord, readiness: Readiness) => void
}

/** A pod without traffic because of its readiness probe. */
export interface NotReady {
  /** `NAMESPACE/NAME` */
  readonly pod: string
  /** `tcp 80` */
  readonly probe: string
  /** Why the newest attempt failed; undefined: there was none yet. */
  readonly reason: string | undefined
}

interface Asked {
  /** Another life of a pod, or another address, is asked anew. */
  readonly key: string
  readonly loop: ProbeLoop
}

/** Asks the pods that want it whether they are ready: from the host, at their first address, as the kubelet does. */
export class PodReadiness implements Disposable {
  readonly #options: PodReadinessOptions
  readonly #asked = new Map<Owner, Asked>()

  constructor(options: PodReadinessOptions) {
    this.#options = options
  }

  /** Asks these pods, and no others from now on. */
  follow(pods: readonly { readonly record: PodRecord; readonly lease: Pick<Lease, 'ips'> }[]): void {
    const gone = new Set(this.#asked.keys())
    for (const { record, lease } of pods) {
      const { readinessProbe: probe, network, exit, ready = false } = record
      const ip = network === hostNetwork ? ownHost : lease.ips[0]
      if (!probe || exit || ip === undefined) continue
      const owner = podOwner(record)
      gone.delete(owner)
      const key = `${record.started} ${ip}`
      const before = this.#asked.get(owner)
      if (before?.key === key) continue
      before?.loop[Symbol.dispose]()
      const loop = new ProbeLoop({
        probe,
        ready,
        clock: this.#options.clock,
        attempt: () => runProbe(probe, ip),
        onChange: (readiness) => this.#options.onChange(record, readiness),
      })
      this.#asked.set(owner, { key, loop })
    }
    for (const owner of gone) {
      this.#asked.get(owner)?.loop[Symbol.dispose]()
      this.#asked.delete(owner)
    }
  }

  /** Why the newest attempt at a pod failed; undefined: it did not, or there was none. */
  reasonOf(owner: Owner): string | undefined {
    return this.#asked.get(owner)?.loop.current.reason
  }

  [Symbol.dispose](): void {
    this.follow([])
  }
}

/** A pod in the network of the host listens there. */
const ownHost: IpAddress = parseIp('127.0.0.1')
