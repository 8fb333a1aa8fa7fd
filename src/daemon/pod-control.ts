import { PodError } from '../bridge/pod-spec.ts'
import type { PodInfo, Pods } from '../bridge/pods.ts'
import { formatPublication, parsePublish, type PublishRequest } from '../bridge/publication.ts'
import { ParseError } from '../net/parse-error.ts'
import type { PodRequest, PodView } from './control-api.ts'
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

  /** Throws {@link HttpError}. */
  async run(request: PodRequest): Promise<PodView> {
    const spec = { ...request, publish: readPublish(request.publish ?? []) }
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
function readPublish(texts: readonly string[]): PublishRequest[] {
  try {
    return texts.map(parsePublish)
  } catch (error) {
    if (error instanceof ParseError) throw new HttpError(400, error.message, { cause: error })
    throw error
  }
}

function podView({ published, ...pod }: PodInfo): PodView {
  const { namespace, name, labels, network, ips, mac, pid, state, started, log } = pod
  const ports = published.map(formatPublication)
  return { namespace, name, labels, network, ips, mac, published: ports, pid, state, started, log }
}
