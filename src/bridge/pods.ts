import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { systemClock, type Clock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { createNetns, deleteNetns, listNetns } from '../linux/netns.ts'
import type { Pod } from '../model/pod.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { MacAddress } from '../net/mac-address.ts'
import { AttachError } from './attach-request.ts'
import { hostNetnsPath, hostNetwork, isBuiltIn } from './built-in-networks.ts'
import { PublishError } from './choose-ports.ts'
import type { EndpointNetworks } from './endpoint-networks.ts'
import { AddressUnavailableError, PoolExhaustedError } from './ipam.ts'
import { leaseKey, type Lease } from './leases.ts'
import { defaultNetnsPrefix, isPodNetns, netnsPath, podInterface, podNetnsName, podOwner, type Owner } from './names.ts'
import { endProcesses, execPrefix, isAlive, killAll, killAllIn, readExitCode, startPodProcess } from './pod-process.ts'
import type { ProcessScope } from './pod-process.ts'
import { formatLanResolvConf, formatResolvConf, podModel } from './pod-model.ts'
import { checkAliases, checkPodSpec, PodError } from './pod-spec.ts'
import type { ConnectRequest, PodPortsRequest, PodSpec } from './pod-spec.ts'
import type { PodRecord, PodStore } from './pod-record.ts'
import { formatPublication, type Publication } from './publication.ts'
import { splitByNetwork } from './withdraw-ports.ts'

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
  readonly log: Log
  readonly clock?: Clock
  /** The environment of commands. @default a usual PATH */
  readonly environment?: Readonly<Record<string, string>>
  /** How the namespaces' names begin; tests have their own. @default `fl-` */
  readonly netnsPrefix?: string
  /** Milliseconds between SIGTERM and SIGKILL. @default 5000 */
  readonly graceMs?: number
}

/** A pod as it is shown to people. */
export interface PodInfo {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly network: string
  readonly ips: readonly IpAddress[]
  readonly mac: MacAddress
  /** Networks that it is in besides the first one. */
  readonly connected: readonly PodConnection[]
  /** Ports of the host that lead to it by its first network. */
  readonly published: readonly Publication[]
  /** Other names that it has in its first network. */
  readonly aliases: readonly string[]
  /** Of the supervising shell, which leads the pod's session; undefined when nothing runs. */
  readonly pid: number | undefined
  /** `exited` without a number: nobody saw the code. */
  readonly state: 'running' | 'no process' | 'exited' | `exited ${number}`
  readonly started: string
  /** Path of the file with the command's output. */
  readonly log: string
}

/** An endpoint of a pod besides its first one. */
export interface PodConnection {
  readonly network: string
  readonly ips: readonly IpAddress[]
  readonly mac: MacAddress
  /** The link's name in the pod. */
  readonly link: string
  readonly published: readonly Publication[]
  readonly aliases: readonly string[]
}

const defaultEnvironment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' }

/** What the host resolves names with. */
const hostResolvConf = '/etc/resolv.conf'

/** How often the processes of pods that an earlier daemon started are looked after, in ms: they are not our children. */
const pollInterval = 500

/** The pods of this machine: named network namespaces on a bridge network, each with a command in it or without. */
export class Pods implements Disposable {
  readonly #options: PodsOptions
  readonly #clock: Clock
  readonly #prefix: string
  /** Pods that are being made or removed. */
  readonly #busy = new Set<string>()
  #poll: Timer | undefined
  #disposed = false

  /** Use {@link openPods}. */
  constructor(options: PodsOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#prefix = options.netnsPrefix ?? defaultNetnsPrefix
  }

  /** All pods, by namespace and name. */
  list(): PodInfo[] {
    return this.#whole()
      .map(({ record, lease }) => this.#info(record, lease))
      .toSorted((a, b) => compareText(a.namespace, b.namespace) || compareText(a.name, b.name))
  }

  /**
   * Makes a pod: namespace, endpoint, resolv.conf, command. On failure, nothing of it is left. Throws {@link PodError},
   * whose cause tells more.
   */
  async run(spec: PodSpec): Promise<PodInfo> {
    checkPodSpec(spec)
    const { store, bootId, networks, log } = this.#options
    const { namespace, name, labels, network, command, ports = [] } = spec
    const owner = podOwner(spec)
    if (store.records.has(owner)) throw new PodError('exists', `${owner} exists already (remove it first)`)
    return await this.#exclusively(spec, async () => {
      const started = this.#clock.now().toISOString()
      const base = { namespace, name, labels, network, command, ports, bootId, started }
      let record: PodRecord = { ...base, phase: 'creating', process: undefined, exit: undefined }
      try {
        store.put(record)
        // In the host's network there is nothing to make.
        using netns = network === hostNetwork ? undefined : createNetns(podNetnsName(spec, this.#prefix))
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
        const resolvConf = this.#writeResolvConf(record)
        if (command.length === 0) record = store.put({ ...record, phase: 'created' })
        else {
          const { environment = defaultEnvironment } = this.#options
          const files = store.files(record)
          const { process, ended } = await startPodProcess(command, { netns, files, resolvConf, environment })
          record = store.put({ ...record, phase: 'created', process })
          void ended.then((code) => this.#noteExit(record, code))
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
    const owner = podOwner(pod)
    const { networks, log } = this.#options
    return await this.#exclusively(pod, async () => {
      const { record, lease } = this.#find(pod)
      const { network, ips, mac, link, publish, aliases } = request
      checkAliases(aliases ?? [])
      if (record.network === hostNetwork || isBuiltIn(network)) {
        const reason = record.network === hostNetwork ? 'it is in network host' : `network ${network} is no link`
        throw new PodError(
          'invalid',
          `cannot connect ${owner} to network ${network}: ${reason} (make a pod in the network that it is to be in)`,
        )
      }
      try {
        const made = await networks.attach({
          owner,
          network,
          netns: lease.netns,
          ...(ips && { ips }),
          ...(mac && { mac }),
          ...(link !== undefined && { link }),
          ...(publish && { publish }),
          ...(aliases && { aliases }),
        })
        // It is in several networks now: what it sends from each address leaves by the network of that.
        await networks.refresh(owner).catch(async (error: unknown) => {
          await networks.detach(owner, network)
          throw error
        })
        this.#writeResolvConf(record)
        log.info(
          { pod: owner, network, ips: made.ips },
          `Connected ${owner} to network ${network}: ${made.ips.join(', ')}`,
        )
      } catch (error) {
        const message = `cannot connect ${owner} to network ${network}: ${(error as Error).message}`
        throw new PodError(kindOf(error), message, { cause: error })
      }
      return this.#info(record, lease)
    })
  }

  /**
   * Publishes ports of a pod, or ends publications: in each of its networks, all or nothing. Throws {@link PodError}; then the
   * ports of the network that it is about are as they were.
   */
  async changePorts(pod: Pick<PodSpec, 'namespace' | 'name'>, request: PodPortsRequest): Promise<PodInfo> {
    const owner = podOwner(pod)
    const { networks, log } = this.#options
    return await this.#exclusively(pod, async () => {
      const { record, lease } = this.#find(pod)
      try {
        for (const change of splitByNetwork(request, { first: lease.network, leases: this.#leasesOf(owner) })) {
          const { published = [] } = await networks.changePorts({ owner, network: change.network }, change)
          const ports = published.map(formatPublication)
          log.info({ pod: owner, network: change.network, ports }, `Changed the published ports of ${owner}`)
        }
      } catch (error) {
        const message = `cannot change the ports of ${owner}: ${(error as Error).message}`
        throw new PodError(kindOf(error), message, { cause: error })
      }
      return this.#info(record, this.#find(pod).lease)
    })
  }

  /** Takes an endpoint away; after the first one, the next is the first. Throws {@link PodError}. */
  async disconnect(pod: Pick<PodSpec, 'namespace' | 'name'>, network: string): Promise<PodInfo> {
    const owner = podOwner(pod)
    const { networks, store, log } = this.#options
    return await this.#exclusively(pod, async () => {
      const { record } = this.#find(pod)
      if (!networks.leases.has(leaseKey({ network, owner }))) {
        throw new PodError('not-found', `${owner} is not connected to network ${network}`)
      }
      const next = this.#leasesOf(owner).find((other) => other.network !== network)
      if (!next) {
        const advice = 'connect it to another one first, or remove the pod'
        throw new PodError('invalid', `${network} is the only network of ${owner} (${advice})`)
      }
      // Written before: after a crash in between, the pod is whole, and still in the network that it was to leave.
      if (record.network === network) store.put({ ...record, network: next.network })
      await networks.detach(owner, network)
      // Another endpoint may be the way out now.
      await networks.refresh(owner)
      this.#writeResolvConf(record)
      log.info({ pod: owner, network }, `Disconnected ${owner} from network ${network}`)
      const left = this.#find(pod)
      return this.#info(left.record, left.lease)
    })
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
    return execPrefix(path, this.#resolvConfOf(record))
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
      await removeNetns(name)
    }
    for (const { record } of whole.values()) {
      this.#writeResolvConf(record)
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
    const { namespace, name, labels, network, process, exit, started } = record
    const code = exit?.code
    const ended = code === undefined ? ('exited' as const) : (`exited ${code}` as const)
    return {
      namespace,
      name,
      labels,
      network,
      ips: lease.ips,
      mac: lease.mac,
      connected: this.#leasesOf(lease.owner)
        .filter((other) => other.network !== network)
        .map(({ network, ips, mac, link = podInterface, published = [], aliases = [] }) => {
          return { network, ips, mac, link, published, aliases }
        }),
      published: lease.published ?? [],
      aliases: lease.aliases ?? [],
      pid: exit ? undefined : process?.pid,
      state: exit ? ended : process ? 'running' : 'no process',
      started,
      log: this.#options.store.files(record).log,
    }
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
    for (const { network } of this.#leasesOf(owner)) await this.#options.networks.detach(owner, network)
    deleteNetns(podNetnsName(record, this.#prefix))
    this.#options.store.delete(record)
  }

  /** Everything in its namespace is the pod's; the host's namespace is not. */
  #scopeOf(record: PodRecord): ProcessScope {
    if (record.network === hostNetwork) return { mark: this.#options.store.files(record).folder }
    return { netnsPath: netnsPath(podNetnsName(record, this.#prefix)) }
  }

  #resolvConfOf(record: PodRecord): string {
    const { dns, networks, store } = this.#options
    const own = record.network !== hostNetwork && (dns !== undefined || networks.resolvers !== undefined)
    return own ? store.files(record).resolvConf : hostResolvConf
  }

  /** In place, not by renaming: running pods have this very file mounted. */
  #writeResolvConf(record: PodRecord): string {
    const resolvConf = this.#resolvConfOf(record)
    if (resolvConf === hostResolvConf) return resolvConf
    mkdirSync(this.#options.store.files(record).folder, { recursive: true, mode: 0o700 })
    const content = this.#resolversOf(record)
    if (content !== readIfThere(resolvConf)) writeFileSync(resolvConf, content, { mode: 0o644 })
    return resolvConf
  }

  /** What its resolv.conf says: of a pod that is on the LAN only, what the LAN says, or else the host. */
  #resolversOf(record: PodRecord): string {
    const { dns, networks } = this.#options
    const resolvers = networks.resolvers?.(podOwner(record)) ?? 'cluster'
    if (typeof resolvers === 'object') return formatLanResolvConf(resolvers)
    if (resolvers === 'cluster' && dns) return formatResolvConf(record.namespace, dns)
    return readIfThere(hostResolvConf) ?? ''
  }

  /** After the addresses of an endpoint became others by themselves. */
  #noteAddresses(owner: Owner): void {
    const record = this.#options.store.records.get(owner)
    if (this.#disposed || record?.phase !== 'created') return
    try {
      this.#writeResolvConf(record)
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
    this.#options.onPods(
      this.#whole().map(({ record, lease }) => {
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

/** What is asked for and cannot be had is no failure of ours. */
function kindOf(error: unknown): 'invalid' | 'failed' {
  const refusals = [AttachError, AddressUnavailableError, PoolExhaustedError, PublishError]
  return refusals.some((kind) => error instanceof kind) ? 'invalid' : 'failed'
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

async function removeNetns(name: string): Promise<void> {
  await killAllIn(netnsPath(name))
  deleteNetns(name)
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
