import { systemClock, type Clock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { createNetns, deleteNetns, listNetns } from '../linux/netns.ts'
import type { Pod } from '../model/pod.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { Readiness } from '../probes/probe-loop.ts'
import { formatReadinessProbe } from '../probes/readiness-probe.ts'
import { hostNetnsPath, hostNetwork } from './built-in-networks.ts'
import type { EndpointNetworks } from './endpoint-networks.ts'
import { leaseKey, type Lease } from './leases.ts'
import { defaultNetnsPrefix, isPodNetns, netnsPath, podNetnsName, podOwner, type Owner } from './names.ts'
import { kindOf, PodEndpoints } from './pod-endpoints.ts'
import { podInfo, type PodInfo } from './pod-info.ts'
import { isReady, podModel } from './pod-model.ts'
import { endProcesses, execPrefix, isAlive, killAll, killAllIn, readExitCode, startPodProcess } from './pod-process.ts'
import type { ProcessScope } from './pod-process.ts'
import type { PodService } from './pod-unit.ts'
import { PodReadiness, type NotReady } from './pod-readiness.ts'
import type { PodRecord, PodStore } from './pod-record.ts'
import { PodResolvConf } from './pod-resolv-conf.ts'
import { checkPodSpec, PodError, type ConnectRequest, type PodPortsRequest, type PodSpec } from './pod-spec.ts'

/** What {@link openPods} needs. */
export interface PodsOptions {
  readonly networks: EndpointNetworks
  readonly store: PodStore
  readonly bootId: string
  readonly nodeName: string
  /** What pods resolve names with. Undefined: the host's own /etc/resolv.conf. */
  readonly dns: { readonly addresses: readonly IpAddress[]; readonly zone: string } | undefined
  /** Called with all pods after every change, and once at the start. */
  readonly onPods: (pods: readonly Pod[]) => void
  /** Called when a pod became ready, or not ready, with a sentence. */
  readonly onReadiness?: (sentence: string) => void
  readonly log: Log
  readonly clock?: Clock
  /** How commands are started. */
  readonly service?: PodService | undefined
  /** The environment of commands. @default a usual PATH */
  readonly environment?: Readonly<Record<string, string>>
  /** How the namespaces' names begin; tests have their own. @default `fl-` */
  readonly netnsPrefix?: string
  /** Milliseconds between SIGTERM and SIGKILL. @default 5000 */
  readonly graceMs?: number
}

const defaultEnvironment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' }

/** How often the processes of pods that an earlier daemon started are looked after, in ms: they are not our children. */
const pollInterval = 500

/** The pods of this machine: named network namespaces on a bridge network, each with a command in it or without. */
export class Pods implements Disposable {
  readonly #options: PodsOptions
  readonly #clock: Clock
  readonly #prefix: string
  /** Pods that are being made or removed. */
  readonly #busy = new Set<string>()
  readonly #resolvConf: PodResolvConf
  readonly #readiness: PodReadiness
  #poll: Timer | undefined
  #disposed = false

  /** Use {@link openPods}. */
  constructor(options: PodsOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#prefix = options.netnsPrefix ?? defaultNetnsPrefix
    this.#resolvConf = new PodResolvConf(options)
    const onChange = (pod: PodRecord, readiness: Readiness): void => this.#noteReadiness(pod, readiness)
    this.#readiness = new PodReadiness({ clock: this.#clock, onChange })
  }

  /** All pods, by namespace and name. */
  list(): PodInfo[] {
    return this.#whole()
      .map(({ record, lease }) => this.#info(record, lease))
      .toSorted((a, b) => compareText(a.namespace, b.namespace) || compareText(a.name, b.name))
  }

  /** Pods without traffic because of their readiness probe. */
  notReady(): NotReady[] {
    return [...this.#options.store.records.values()].flatMap((record): NotReady[] => {
      const { namespace, name, readinessProbe: probe, exit, phase } = record
      if (!probe || exit || phase !== 'created' || isReady(record)) return []
      const reason = this.#readiness.reasonOf(podOwner(record))
      return [{ pod: `${namespace}/${name}`, probe: formatReadinessProbe(probe), reason }]
    })
  }

  /**
   * Makes a pod: namespace, endpoint, resolv.conf, command. On failure, nothing of it is left. Throws {@link PodError},
   * whose cause tells more.
   */
  async run(spec: PodSpec): Promise<PodInfo> {
    checkPodSpec(spec)
    const { store, bootId, networks, log } = this.#options
    const { namespace, name, labels, network, command, ports = [], readinessProbe } = spec
    const owner = podOwner(spec)
    if (store.records.has(owner)) throw new PodError('exists', `${owner} exists already (remove it first)`)
    return await this.#exclusively(spec, async () => {
      const started = this.#clock.now().toISOString()
      const asked = readinessProbe && { readinessProbe, ready: false }
      const base = { namespace, name, labels, network, command, ports, bootId, started, ...asked }
      let record: PodRecord = { ...base, phase: 'creating', process: undefined, exit: undefined }
      try {
        store.put(record)
        // In the host's network there is nothing to make.
        using netns =
          network === hostNetwork ? undefined : createNetns(podNetnsName(spec, this.#prefix), this.#options.service)
        const { ips, mac, publish, aliases } = spec
        const lease = await networks.attach({
          owner,
          network,
          netns: netns?.path ?? hostNetnsPath,
          ...(ips && { ips }),
          ...(mac && { mac }),
          ...(publish && { publish }),
          ...(aliases && { aliases }),
        })
        const resolvConf = this.#resolvConf.write(record)
        if (command.length === 0) record = store.put({ ...record, phase: 'created' })
        else {
          const { environment = defaultEnvironment } = this.#options
          const files = store.files(record)
          const start = this.#options.service?.startProcess ?? startPodProcess
          const { process, ended } = await start(command, { netns, files, resolvConf, environment })
          record = store.put({ ...record, phase: 'created', process })
          void ended?.then((code) => this.#noteExit(record, code))
        }
        netns?.release()
        log.info(
          { pod: owner, ips: lease.ips, pid: record.process?.pid },
          `Made ${owner}: ${lease.ips.join(', ') || 'no address'}`,
        )
        return this.#info(record, lease)
      } catch (error) {
        await this.#removeTraces(record)
        throw new PodError(kindOf(error), `cannot make ${owner}: ${(error as Error).message}`, { cause: error })
      }
    })
  }

  /** Gives a pod an endpoint in one more network. Throws {@link PodError}; then nothing has changed. */
  async connect(pod: Pick<PodSpec, 'namespace' | 'name'>, request: ConnectRequest): Promise<PodInfo> {
    return await this.#changeEndpoints(pod, (endpoints) => endpoints.connect(request))
  }

  /**
   * Publishes ports of a pod, or ends publications: in each of its networks, all or nothing. Throws {@link PodError}; then the
   * ports of the network that it is about are as they were.
   */
  async changePorts(pod: Pick<PodSpec, 'namespace' | 'name'>, request: PodPortsRequest): Promise<PodInfo> {
    return await this.#changeEndpoints(pod, (endpoints) => endpoints.changePorts(request))
  }

  /** Takes an endpoint away; after the first one, the next is the first. Throws {@link PodError}. */
  async disconnect(pod: Pick<PodSpec, 'namespace' | 'name'>, network: string): Promise<PodInfo> {
    return await this.#changeEndpoints(pod, (endpoints) => endpoints.disconnect(network))
  }

  /** Stops a pod's processes and takes everything of it away. Throws {@link PodError}. */
  async remove(namespace: string, name: string): Promise<void> {
    const owner = podOwner({ namespace, name })
    const record = this.#options.store.records.get(owner)
    if (!record) throw new PodError('not-found', `there is no ${owner}`)
    await this.#exclusively(record, async () => {
      const removing = this.#noteRemoving(record)
      const scope = this.#scopeOf(record)
      this.#publish()
      await endProcesses(removing, { scope, graceMs: this.#options.graceMs ?? 5000 })
      await this.#removeTraces(removing)
      this.#options.log.info({ pod: owner }, `Removed ${owner}`)
    })
  }

  /** Words to put before a command to run it in a pod (as root, with nsenter and unshare of util-linux). Throws {@link PodError}. */
  exec(namespace: string, name: string): string[] {
    const record = this.#options.store.records.get(podOwner({ namespace, name }))
    if (record?.phase !== 'created') throw new PodError('not-found', `there is no pod ${namespace}/${name}`)
    // Whoever runs it may be in a namespace of another kind: the host's is this process's own.
    const path =
      record.network === hostNetwork ? `/proc/${process.pid}/ns/net` : netnsPath(podNetnsName(record, this.#prefix))
    return execPrefix(path, this.#resolvConf.pathOf(record))
  }

  /** Removes all pods. Throws AggregateError after trying each. */
  async removeAll(): Promise<void> {
    const removals = this.#whole().map(({ record }) => this.remove(record.namespace, record.name))
    const failed = (await Promise.allSettled(removals)).filter(({ status }) => status === 'rejected')
    if (failed.length > 0) throw new AggregateError(failed, `cannot remove ${failed.length} pods`)
  }

  /** Stops looking after pods; they go on. */
  [Symbol.dispose](): void {
    this.#disposed = true
    this.#poll?.cancel()
    this.#readiness[Symbol.dispose]()
  }

  /** Takes over what an earlier daemon left: whole pods are adopted, everything else of ours is removed. */
  async adopt(): Promise<void> {
    const { store, log } = this.#options
    const whole = new Map(this.#whole().map((pod) => [podNetnsName(pod.record, this.#prefix), pod]))
    for (const record of Array.from(store.records.values())) {
      if (whole.has(podNetnsName(record, this.#prefix))) continue
      log.info({ pod: podOwner(record), phase: record.phase }, `Removing what is left of ${podOwner(record)}`)
      await this.#removeTraces(record)
    }
    for (const name of listNetns()) {
      if (!isPodNetns(name, this.#prefix) || whole.has(name)) continue
      log.info({ netns: name }, `Removing network namespace ${name}, which belongs to no pod`)
      await removeNetns(name, this.#options.service)
    }
    for (const { record } of whole.values()) {
      this.#resolvConf.write(record)
      log.info({ pod: podOwner(record) }, `Adopted ${podOwner(record)}`)
    }
    this.#options.networks.watchAddresses?.((owner) => this.#noteAddresses(owner))
    this.#lookAfterProcesses()
    this.#publish()
  }

  #find(pod: Pick<PodSpec, 'namespace' | 'name'>): { record: PodRecord; lease: Lease } {
    const { store, networks } = this.#options
    const owner = podOwner(pod)
    const record = store.records.get(owner)
    const lease = record && networks.leases.get(leaseKey({ network: record.network, owner }))
    if (lease && record.phase === 'created') return { record, lease }
    throw new PodError('not-found', `there is no ${owner}`)
  }

  async #changeEndpoints(
    pod: Pick<PodSpec, 'namespace' | 'name'>,
    change: (endpoints: PodEndpoints) => Promise<void>,
  ): Promise<PodInfo> {
    return await this.#exclusively(pod, async () => {
      const before = this.#find(pod)
      await change(new PodEndpoints(before.record, this.#options))
      const { record, lease } = this.#find(pod)
      this.#resolvConf.write(record)
      return this.#info(record, lease)
    })
  }

  #leasesOf(owner: Owner): Lease[] {
    return [...this.#options.networks.leases.values()].filter((lease) => lease.owner === owner)
  }

  /** Pods that have all that they need; those that are being made or removed are none yet, or no more. */
  #whole(): { record: PodRecord; lease: Lease }[] {
    const { store, networks, bootId } = this.#options
    return [...store.records.values()].flatMap((record) => {
      const lease = networks.leases.get(leaseKey({ network: record.network, owner: podOwner(record) }))
      return lease && record.phase === 'created' && record.bootId === bootId ? [{ record, lease }] : []
    })
  }

  #info(record: PodRecord, lease: Lease): PodInfo {
    const { log } = this.#options.store.files(record)
    const notReady = this.#readiness.reasonOf(lease.owner)
    return podInfo(record, { lease, leases: this.#leasesOf(lease.owner), log, notReady })
  }

  async #exclusively<T>(pod: { namespace: string; name: string }, work: () => Promise<T>): Promise<T> {
    const owner = podOwner(pod)
    if (this.#busy.has(owner)) throw new PodError('busy', `${owner} is being made or removed at this moment`)
    this.#busy.add(owner)
    try {
      return await work()
    } finally {
      this.#busy.delete(owner)
      this.#publish()
    }
  }

  /** A full disk keeps no pod from going: its files may be what fills it. What a crash leaves then is a pod to be removed again. */
  #noteRemoving(record: PodRecord): PodRecord {
    const { store, log } = this.#options
    const removing: PodRecord = { ...record, phase: 'removing' }
    try {
      return store.put(removing)
    } catch (error) {
      const owner = podOwner(record)
      log.warn({ pod: owner, err: error }, `Cannot note that ${owner} is being removed; removing it all the same`)
      return store.putInMemory(removing)
    }
  }

  /** In this order, so that at every step what is left can still be found. */
  async #removeTraces(record: PodRecord): Promise<void> {
    await killAll(this.#scopeOf(record))
    const owner = podOwner(record)
    const endpoints = this.#leasesOf(owner)
    const detached = endpoints.map(({ network }) => this.#options.networks.detach(owner, network))
    for (const result of await Promise.allSettled(detached)) if (result.status === 'rejected') throw result.reason
    deleteNetns(podNetnsName(record, this.#prefix), this.#options.service)
    this.#options.store.delete(record)
  }

  /** Everything in its namespace is the pod's; the host's namespace is not. */
  #scopeOf(record: PodRecord): ProcessScope {
    if (record.network === hostNetwork) return { mark: this.#options.store.files(record).folder }
    return { netnsPath: netnsPath(podNetnsName(record, this.#prefix)) }
  }

  /** After the addresses of an endpoint became others by themselves. */
  #noteAddresses(owner: Owner): void {
    const record = this.#options.store.records.get(owner)
    if (this.#disposed || record?.phase !== 'created') return
    try {
      this.#resolvConf.write(record)
    } catch (error) {
      this.#options.log.warn({ pod: owner, err: error }, `Cannot write the resolv.conf of ${owner}`)
    }
    this.#publish()
  }

  #noteExit(pod: PodRecord, code: number | undefined): void {
    const { store, log } = this.#options
    const owner = podOwner(pod)
    const record = store.records.get(owner)
    // It may have been removed, and made again, meanwhile.
    if (this.#disposed || record?.phase !== 'created' || record.exit || record.started !== pod.started) return
    store.put({ ...record, exit: { code, time: this.#clock.now().toISOString() } })
    log.info({ pod: owner, code }, `The command of ${owner} ended${code === undefined ? '' : ` with code ${code}`}`)
    this.#publish()
  }

  #noteReadiness(pod: PodRecord, { ready, reason }: Readiness): void {
    const { store, log, onReadiness } = this.#options
    const owner = podOwner(pod)
    const record = store.records.get(owner)
    if (this.#disposed || record?.phase !== 'created' || record.started !== pod.started) return
    const noted: PodRecord = { ...record, ready }
    try {
      store.put(noted)
    } catch (error) {
      log.warn({ pod: owner, err: error }, `Cannot write down whether ${owner} is ready; it counts all the same`)
      store.putInMemory(noted)
    }
    const sentence = `${record.namespace}/${record.name} is ${ready ? 'ready' : `not ready: ${reason}`}`
    log.info({ pod: owner, ready, reason }, `pod ${sentence}`)
    onReadiness?.(sentence)
    this.#publish()
  }

  #lookAfterProcesses(): void {
    if (this.#disposed) return
    for (const { record } of this.#whole()) {
      if (!record.process || record.exit || isAlive(record.process)) continue
      this.#noteExit(record, readExitCode(this.#options.store.files(record)))
    }
    this.#poll = this.#clock.after(pollInterval, () => this.#lookAfterProcesses())
  }

  #publish(): void {
    if (this.#disposed) return
    const { nodeName } = this.#options
    const others = Map.groupBy(this.#options.networks.leases.values(), ({ owner }) => owner)
    const whole = this.#whole()
    this.#readiness.follow(whole)
    this.#options.onPods(
      whole.map(({ record, lease }) => {
        const leases = new Set([lease, ...(others.get(lease.owner) ?? [])])
        return podModel(record, { leases: [...leases], nodeName })
      }),
    )
  }
}

/** Opens the pods of a machine, adopting what an earlier daemon left. The networks must be open. */
export async function openPods(options: PodsOptions): Promise<Pods> {
  const pods = new Pods(options)
  await pods.adopt()
  return pods
}

/** Whether a lease's pod can be adopted: what `openBridgeNetworks` asks. Leases of others are not ours to judge. */
export function keepsLease(store: PodStore, lease: Lease): boolean {
  if (!lease.owner.startsWith('pod ')) return true
  return store.records.get(lease.owner)?.phase === 'created'
}

async function removeNetns(name: string, service: PodService | undefined): Promise<void> {
  await killAllIn(netnsPath(name))
  deleteNetns(name, service)
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
