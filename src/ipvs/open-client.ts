import { findFamily, NETLINK_GENERIC } from '../netlink/generic-netlink.ts'
import type { NetlinkMessage } from '../netlink/message.ts'
import { openNetlink, type NetlinkSocket } from '../netlink/netlink-socket.ts'
import { runAll } from '../netlink/run-all.ts'
import type { TransportOptions } from '../netlink/transport.ts'
import { IpvsUnavailableError, type IpvsClient, type IpvsInfo, type RunResult } from './client.ts'
import { ipvsFamily } from './ipvs-messages.ts'
import {
  virtualFamily,
  type Command,
  type RealServerState,
  type Timeouts,
  type VirtualAddress,
  type VirtualServerState,
} from './objects.ts'
import { readInfo, readReal, readTimeouts, readVirtual } from './read-servers.ts'
import {
  commandRequest,
  getInfo,
  getTimeouts,
  listReals,
  listVirtuals,
  setTimeouts,
  type IpvsRequest,
} from './requests.ts'

/** Opens IPVS of this thread's namespace, or of `netns`. Whether the kernel has it shows at the first question. */
export function openIpvs(options: Pick<TransportOptions, 'netns'> = {}): IpvsClient {
  // Dumps of many real servers come faster in large datagrams.
  return new NetlinkIpvs(openNetlink({ ...options, protocol: NETLINK_GENERIC, datagramSize: 32_768 }))
}

/** {@link IpvsClient} over a socket of NETLINK_GENERIC, which it owns. */
export class NetlinkIpvs implements IpvsClient {
  readonly #socket: NetlinkSocket
  #family: Promise<number> | undefined
  #dumps: Promise<unknown> = Promise.resolve()

  constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  async list(): Promise<readonly VirtualServerState[]> {
    const answers = await this.#dump(listVirtuals())
    const found: VirtualServerState[] = []
    for (const { payload } of answers) {
      const virtual = readVirtual(payload)
      if (virtual) found.push({ ...virtual, reals: await this.reals(virtual.at) })
    }
    return found
  }

  async reals(at: VirtualAddress): Promise<readonly RealServerState[]> {
    const answers = await this.#dump(listReals(at))
    return answers.flatMap(({ payload }) => readReal(payload, virtualFamily(at)) ?? [])
  }

  async run(commands: readonly Command[]): Promise<RunResult> {
    if (commands.length === 0) return { commands: 0, bytes: 0, messages: 0 }
    const type = await this.#type()
    let bytes = 0
    let messages = 0
    const requests = commands.map((command) => ({ ...commandRequest(command), type }))
    const counting: Pick<NetlinkSocket, 'pipeline'> = {
      pipeline: (chunk) => {
        for (const { payload } of chunk) bytes += messageHeaderLength + payload.length
        messages++
        return this.#socket.pipeline(chunk)
      },
    }
    await runAll(counting, requests)
    return { commands: commands.length, bytes, messages }
  }

  async timeouts(): Promise<Timeouts> {
    return readTimeouts(await this.#ask(getTimeouts()))
  }

  async setTimeouts(timeouts: Timeouts): Promise<void> {
    await this.#socket.request(await this.#typed(setTimeouts(timeouts)))
  }

  async info(): Promise<IpvsInfo> {
    return readInfo(await this.#ask(getInfo()))
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]()
  }

  /** One after the other: the kernel refuses a dump while another one of the same socket goes on (EBUSY). */
  async #dump(request: IpvsRequest): Promise<NetlinkMessage[]> {
    const answers = this.#dumps.then(async () => await this.#socket.dump(await this.#typed(request)))
    this.#dumps = answers.catch(() => {})
    return await answers
  }

  async #ask(request: IpvsRequest): Promise<Buffer> {
    const [answer] = await this.#socket.request(await this.#typed(request))
    if (!answer) throw new Error(`${request.name}: the kernel only acknowledged`)
    return answer.payload
  }

  async #typed(request: IpvsRequest) {
    return { ...request, type: await this.#type() }
  }

  /** Asked once: the number stays until the module is unloaded. A failure is asked again, since the module may come. */
  #type(): Promise<number> {
    this.#family ??= findFamily(this.#socket, ipvsFamily.name).then(
      (type) => {
        if (type !== undefined) return type
        this.#family = undefined
        throw new IpvsUnavailableError(
          'this kernel has no IPVS: generic netlink family IPVS is not there (option CONFIG_IP_VS, module ip_vs). Where "modprobe ip_vs" finds no module, another kernel is needed: Debian\'s linux-image-amd64 and linux-image-arm64 have it; a container gets it from its host',
        )
      },
      (error: unknown) => {
        this.#family = undefined
        throw error
      },
    )
    return this.#family
  }
}

/** struct nlmsghdr */
const messageHeaderLength = 16
