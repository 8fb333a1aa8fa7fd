import { ipFamilyOf } from '../net/ip-address.ts'
import { NetlinkError } from '../netlink/netlink-error.ts'
import { NetlinkRequestsError } from '../netlink/run-all.ts'
import { IpvsUnavailableError, type IpvsClient, type IpvsInfo, type RunResult } from './client.ts'
import {
  realKey,
  schedulers,
  virtualFamily,
  virtualKey,
  type Command,
  type ConnectionCounts,
  type RealServer,
  type RealServerState,
  type Timeouts,
  type Traffic,
  type VirtualAddress,
  type VirtualServer,
  type VirtualServerState,
} from './objects.ts'
import { commandRequest } from './requests.ts'

interface FakeVirtual {
  virtual: VirtualServer
  readonly reals: Map<string, RealServer>
}

/** errno.h */
const errno = { ENOENT: 2, ESRCH: 3, EEXIST: 17, EINVAL: 22, ERANGE: 34 } as const
const noTraffic: Traffic = { connections: 0n, packetsIn: 0n, packetsOut: 0n, bytesIn: 0n, bytesOut: 0n }
const noConnections: ConnectionCounts = { active: 0, inactive: 0, persistent: 0 }

/** IPVS in memory, which refuses what the kernel refuses (net/netfilter/ipvs/ip_vs_ctl.c). `test/contract/ipvs-client.ts` runs on both. */
export class FakeIpvs implements IpvsClient {
  /** Every command that was run, in order, refused ones too. */
  readonly commands: Command[] = []
  /** Called before each run; throwing makes the run fail as a whole. */
  beforeRun: () => void = () => {}
  readonly #virtuals = new Map<string, FakeVirtual>()
  readonly #schedulers: ReadonlySet<string>
  readonly #available: boolean
  #counts = new Map<string, ConnectionCounts>()
  #timeouts: Timeouts = { tcp: 900, tcpFin: 120, udp: 300 }

  constructor(options: { readonly schedulers?: readonly string[]; readonly available?: boolean } = {}) {
    this.#schedulers = new Set(options.schedulers ?? schedulers.filter((name) => name !== 'twos'))
    this.#available = options.available ?? true
  }

  /** Lets a real server have connections. */
  setCounts(at: VirtualAddress, real: Pick<RealServer, 'ip' | 'port'>, counts: Partial<ConnectionCounts>): void {
    this.#counts.set(`${virtualKey(at)} ${realKey(real)}`, { ...noConnections, ...counts })
  }

  async list(): Promise<readonly VirtualServerState[]> {
    this.#check()
    return [...this.#virtuals.values()].map(({ virtual, reals }) => ({
      ...virtual,
      reals: [...reals.values()].map((real) => this.#state(virtual.at, real)),
      traffic: noTraffic,
    }))
  }

  async reals(at: VirtualAddress): Promise<readonly RealServerState[]> {
    this.#check()
    const found = this.#virtuals.get(virtualKey(at))
    return found ? [...found.reals.values()].map((real) => this.#state(at, real)) : []
  }

  async run(commands: readonly Command[]): Promise<RunResult> {
    if (commands.length === 0) return { commands: 0, bytes: 0, messages: 0 }
    this.#check()
    this.beforeRun()
    const errors: Error[] = []
    let bytes = 0
    for (const command of commands) {
      this.commands.push(command)
      const { name, payload } = commandRequest(command)
      bytes += payload.length + 16
      const refusal = this.#do(command)
      if (refusal !== undefined) errors.push(new NetlinkError(name, errno[refusal]))
    }
    if (errors.length === 1) throw errors[0]!
    if (errors.length > 1) throw new NetlinkRequestsError(errors, errors.map(({ message }) => message).join('; '))
    return { commands: commands.length, bytes, messages: Math.ceil(commands.length / 256) }
  }

  async timeouts(): Promise<Timeouts> {
    this.#check()
    return this.#timeouts
  }

  async setTimeouts(timeouts: Timeouts): Promise<void> {
    this.#check()
    const { tcp, tcpFin, udp } = this.#timeouts
    this.#timeouts = { tcp: timeouts.tcp || tcp, tcpFin: timeouts.tcpFin || tcpFin, udp: timeouts.udp || udp }
  }

  async info(): Promise<IpvsInfo> {
    this.#check()
    return { version: '1.2.1', connectionTableSize: 4096 }
  }

  [Symbol.dispose](): void {}

  #check(): void {
    if (!this.#available) throw new IpvsUnavailableError('the kernel has no IPVS (modprobe ip_vs)')
  }

  #state(at: VirtualAddress, real: RealServer): RealServerState {
    const counts = this.#counts.get(`${virtualKey(at)} ${realKey(real)}`) ?? noConnections
    return { ...real, counts, traffic: noTraffic }
  }

  /** The kernel's refusal; undefined: it is done. */
  #do(command: Command): keyof typeof errno | undefined {
    switch (command.op) {
      case 'add-virtual':
      case 'set-virtual': {
        const { virtual } = command
        const known = this.#virtuals.get(virtualKey(virtual.at))
        if (command.op === 'add-virtual' && known) return 'EEXIST'
        if (command.op === 'set-virtual' && !known) return 'ESRCH'
        if (!this.#schedulers.has(virtual.scheduler)) return 'ENOENT'
        if (virtualFamily(virtual.at) === 6 && virtual.persistence?.prefix === 0) return 'EINVAL'
        if (known) known.virtual = virtual
        else this.#virtuals.set(virtualKey(virtual.at), { virtual, reals: new Map() })
        return undefined
      }
      case 'delete-virtual':
        return this.#virtuals.delete(virtualKey(command.at)) ? undefined : 'ESRCH'
      case 'add-real':
      case 'set-real':
      case 'delete-real': {
        const virtual = this.#virtuals.get(virtualKey(command.at))
        if (!virtual) return 'ESRCH'
        return this.#doReal(command, virtual)
      }
      default:
        return command satisfies never
    }
  }

  #doReal(
    command: Extract<Command, { op: 'add-real' | 'set-real' | 'delete-real' }>,
    { reals }: FakeVirtual,
  ): keyof typeof errno | undefined {
    const key = realKey(command.real)
    if (command.op === 'delete-real') return reals.delete(key) ? undefined : 'ENOENT'
    const { real, at, op } = command
    if (ipFamilyOf(real.ip) !== virtualFamily(at) && real.forwarding !== 'tunnel') return 'EINVAL'
    if (real.weight < 0 || (real.lowerThreshold ?? 0) > (real.upperThreshold ?? 0)) return 'ERANGE'
    if (op === 'add-real' && reals.has(key)) return 'EEXIST'
    if (op === 'set-real' && !reals.has(key)) return 'ENOENT'
    reals.set(key, real)
    return undefined
  }
}
