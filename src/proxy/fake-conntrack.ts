import { ipFamilyOf, parseIp } from '../net/ip-address.ts'
import { protocolNumbers, type Protocol } from '../net/protocol.ts'
import {
  destinationTranslated,
  tcpEstablished,
  type ConnectionEntry,
  type ConnectionFilter,
  type ConnectionTuple,
  type Conntrack,
} from '../netlink/conntrack.ts'

/** A connection table in memory, which remembers what it was asked. */
export class FakeConntrack implements Conntrack {
  readonly asked: ConnectionFilter[] = []
  #entries: ConnectionEntry[] = []

  /** Adds a connection; `to` is where it goes after translation. Addresses are like `10.0.0.1 80` (without brackets). */
  add(protocol: Protocol, path: { from: string; asked: string; to?: string }): ConnectionEntry {
    const [source, sourcePort] = split(path.from)
    const [destination, destinationPort] = split(path.asked)
    const [target, targetPort] = split(path.to ?? path.asked)
    const number = protocolNumbers[protocol]
    const entry: ConnectionEntry = {
      original: { source, destination, protocol: number, sourcePort, destinationPort },
      reply: {
        source: target,
        destination: source,
        protocol: number,
        sourcePort: targetPort,
        destinationPort: sourcePort,
      },
      status: path.to === undefined ? 0 : destinationTranslated,
      id: this.#entries.length + 1,
      tcpState: protocol === 'tcp' ? tcpEstablished : undefined,
    }
    this.#entries.push(entry)
    return entry
  }

  get entries(): readonly ConnectionEntry[] {
    return this.#entries
  }

  async list(filter: ConnectionFilter): Promise<ConnectionEntry[]> {
    this.asked.push(filter)
    return this.#entries.filter(
      (entry) =>
        ipFamilyOf(entry.original.source) === filter.family &&
        (['original', 'reply'] as const).every((way) =>
          Object.entries(filter[way] ?? {}).every(
            ([name, value]) => entry[way][name as keyof ConnectionTuple] === value,
          ),
        ),
    )
  }

  async delete(entries: readonly ConnectionEntry[]): Promise<void> {
    this.#entries = this.#entries.filter((entry) => !entries.includes(entry))
  }

  [Symbol.dispose](): void {
    this.#entries = []
  }
}

function split(text: string) {
  const [ip = '', port = ''] = text.split(' ')
  return [parseIp(ip), Number(port)] as const
}
