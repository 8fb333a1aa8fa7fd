import { PodError } from '../bridge/pod-spec.ts'
import type { PodInfo } from '../bridge/pod-info.ts'
import type { NotReady } from '../bridge/pod-readiness.ts'
import type { Pods } from '../bridge/pods.ts'
import { formatPublication, parsePublish } from '../bridge/publication.ts'
import { parseWithdraw } from '../bridge/withdraw-ports.ts'
import { ManifestError } from '../model/manifest-error.ts'
import { ipFamilyOf, parseIp, type IpAddress } from '../net/ip-address.ts'
import { parseMac, type MacAddress } from '../net/mac-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { parseReadinessProbe, type ReadinessProbe } from '../probes/readiness-probe.ts'
import { publishedOf } from './control-api.ts'
import type { ConnectPodRequest, PodPortsBody, PodRequest, PodView } from './control-api.ts'
import type { EventLog } from './events.ts'
import { HttpError } from './http-server.ts'

const statusOf = { invalid: 400, 'not-found': 404, exists: 409, busy: 409, failed: 500 } as const

/** The pods as the control socket and the command line see them. Refuses, with reason, until {@link serve} was called. */
export class PodControl {
  readonly #events: EventLog
  #pods: Pods | undefined
  #refusal = 'the daemon is starting'

  constructor(events: EventLog) {
    this.#events = events
  }

  /** Takes up work on these pods; without any, the configuration has no network. */
  serve(pods: Pods | undefined): void {
    this.#pods = pods
    this.#refusal = 'there is no network: network.enabled is false in the configuration'
  }

  list(): PodView[] {
    return this.#pods?.list().map(podView) ?? []
  }

  /** Pods without traffic because of their readiness probe. */
  notReady(): readonly NotReady[] {
    return this.#pods?.notReady() ?? []
  }

  /** Throws {@link HttpError}. */
  async run(request: PodRequest): Promise<PodView> {
    const { ips, mac, publish = [], readinessProbe, ...rest } = request
    const spec = {
      ...rest,
      ...readAddresses({ ips, mac }),
      publish: parseAll(publish, parsePublish),
      ...(readinessProbe !== undefined && { readinessProbe: readProbe(readinessProbe) }),
    }
    const pod = podView(await this.#with((pods) => pods.run(spec)))
    const published = pod.published.map((one) => `, ${one}`).join('')
    this.#events.add('pod', `${pod.namespace}/${pod.name} is ${pod.state}: ${pod.ips.join(', ')}${published}`)
    return pod
  }

  /** The words before a command that run it in the pod. Throws {@link HttpError}. */
  async exec(namespace: string, name: string): Promise<readonly string[]> {
    return await this.#with((pods) => pods.exec(namespace, name))
  }

  /** Throws {@link HttpError}. */
  async remove(namespace: string, name: string): Promise<void> {
    await this.#with((pods) => pods.remove(namespace, name))
    this.#events.add('pod', `${namespace}/${name} is removed`)
  }

  /** Throws {@link HttpError}. */
  async connect(network: string, request: ConnectPodRequest): Promise<PodView> {
    const { ips, mac, interfaceName, publish = [], aliases = [], ...pod } = request
    const wanted = {
      network,
      ...readAddresses({ ips, mac }),
      publish: parseAll(publish, parsePublish),
      aliases,
      ...(interfaceName !== undefined && { link: interfaceName }),
    }
    const view = podView(await this.#with((pods) => pods.connect(pod, wanted)))
    const made = view.connected.find((connection) => connection.network === network)
    this.#events.add('pod', `${pod.namespace}/${pod.name} is connected to network ${network}: ${made?.ips.join(', ')}`)
    return view
  }

  /** Throws {@link HttpError}. */
  async changePorts(pod: { readonly namespace: string; readonly name: string }, body: PodPortsBody): Promise<PodView> {
    const { publish = [], unpublish = [], network } = body
    const request = {
      publish: parseAll(publish, parsePublish),
      withdraw: parseAll(unpublish, parseWithdraw),
      ...(network !== undefined && { network }),
    }
    const view = podView(await this.#with((pods) => pods.changePorts(pod, request)))
    const all = publishedOf(view).join(', ') || 'none'
    this.#events.add('pod', `${pod.namespace}/${pod.name} has new published ports: ${all}`)
    return view
  }

  /** Throws {@link HttpError}. */
  async disconnect(network: string, pod: { readonly namespace: string; readonly name: string }): Promise<void> {
    await this.#with((pods) => pods.disconnect(pod, network))
    this.#events.add('pod', `${pod.namespace}/${pod.name} is disconnected from network ${network}`)
  }

  /** Stops and removes every pod. */
  async removeAll(): Promise<void> {
    await this.#pods?.removeAll()
  }

  async #with<T>(work: (pods: Pods) => T | Promise<T>): Promise<T> {
    if (!this.#pods) throw new HttpError(503, this.#refusal)
    try {
      return await work(this.#pods)
    } catch (error) {
      if (error instanceof PodError) throw new HttpError(statusOf[error.kind], error.message, { cause: error })
      throw error
    }
  }
}

/** Throws {@link HttpError}. */
function readAddresses({
  ips,
  mac,
}: {
  readonly ips?: readonly string[] | undefined
  readonly mac?: string | undefined
}): {
  readonly ips?: readonly IpAddress[]
  readonly mac?: MacAddress
} {
  try {
    const parsed = ips?.map(parseIp) ?? []
    if (new Set(parsed.map(ipFamilyOf)).size < parsed.length) {
      throw new HttpError(400, `ips: ${parsed.join(' and ')} are of one family (expected at most one each)`)
    }
    return { ...(parsed.length > 0 && { ips: parsed }), ...(mac !== undefined && { mac: parseUnicastMac(mac) }) }
  } catch (error) {
    if (error instanceof ParseError) throw new HttpError(400, error.message, { cause: error })
    throw error
  }
}

/** Throws {@link HttpError}. */
function readProbe(value: unknown): ReadinessProbe {
  try {
    return parseReadinessProbe(value)
  } catch (error) {
    if (error instanceof ManifestError) throw new HttpError(400, error.message, { cause: error })
    throw error
  }
}

/** A link can have no group address, and not none. */
function parseUnicastMac(text: string): MacAddress {
  const mac = parseMac(text)
  if ((Number.parseInt(mac.slice(0, 2), 16) & 1) === 0 && mac !== '00:00:00:00:00:00') return mac
  throw new ParseError(`${mac} cannot be a link's address (expected a unicast one, like 02:00:00:00:00:01)`)
}

/** Throws {@link HttpError}. */
function parseAll<T>(texts: readonly string[], parse: (text: string) => T): T[] {
  try {
    return texts.map(parse)
  } catch (error) {
    if (error instanceof ParseError) throw new HttpError(400, error.message, { cause: error })
    throw error
  }
}

function podView({ published, ...pod }: PodInfo): PodView {
  const { namespace, name, labels, network, ips, mac, aliases, pid, state, ready, readiness, started, log } = pod
  const ports = published.map(formatPublication)
  const connected = pod.connected.map((one) => ({ ...one, published: one.published.map(formatPublication) }))
  const life = { pid, state, ready, readiness, started, log }
  return { namespace, name, labels, network, ips, mac, connected, published: ports, aliases, ...life }
}
