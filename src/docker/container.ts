import { constants } from 'node:os'
import { ManifestReader } from '../model/manifest-reader.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'

/** A container, as far as it is of interest for reaching it. */
export interface Container {
  readonly id: string
  /** Without the slash that Docker puts before it. */
  readonly name: string
  /** RFC 3339. */
  readonly created: string
  readonly labels: Readonly<Record<string, string>>
  /** Ports that its image or `--expose` names: `80/tcp`. */
  readonly exposed: readonly string[]
  /** `paused` ones have their addresses, and answer nobody. */
  readonly state: 'running' | 'paused' | 'stopped'
  /** `none`: it has no health check. */
  readonly health: 'none' | 'starting' | 'healthy' | 'unhealthy'
  /** `bridge`, `host`, `container:ID`, or the name of a network. */
  readonly networkMode: string
  /** Where it has an address, by name of the network. */
  readonly networks: ReadonlyMap<string, readonly IpAddress[]>
  /** What `docker stop` sends. */
  readonly stopSignal: number
  /** Seconds from that to SIGKILL. */
  readonly stopTimeout: number
}

/** Reads the answer to `GET /containers/ID/json`. What is missing or of another form counts as absent. */
export function readContainer(value: unknown): Container {
  const reader = ManifestReader.of(value)
  const config = reader.object('Config')
  const state = reader.object('State')
  const running = (state.boolean('Running') ?? false) && !(state.boolean('Restarting') ?? false)
  const health = state.object('Health').text('Status')
  return {
    id: reader.text('Id') ?? '',
    name: (reader.text('Name') ?? '').replace(/^\//, ''),
    created: reader.text('Created') ?? '',
    labels: config.texts('Labels'),
    exposed: config.object('ExposedPorts').keys(),
    state: running ? (state.boolean('Paused') ? 'paused' : 'running') : 'stopped',
    health: health === 'starting' || health === 'healthy' || health === 'unhealthy' ? health : 'none',
    networkMode: reader.object('HostConfig').text('NetworkMode') ?? '',
    networks: readNetworks(reader.object('NetworkSettings').object('Networks')),
    stopSignal: signalNumber(config.text('StopSignal') ?? 'SIGTERM'),
    stopTimeout: config.integer('StopTimeout', { min: 0, max: 86_400 }) ?? 10,
  }
}

/** The labels of an element of the list of containers, with its id. */
export function readListed(value: unknown): Pick<Container, 'id' | 'labels'> {
  const reader = ManifestReader.of(value)
  return { id: reader.text('Id') ?? '', labels: reader.texts('Labels') }
}

function readNetworks(reader: ManifestReader): Container['networks'] {
  const networks = new Map<string, readonly IpAddress[]>()
  for (const name of reader.keys().toSorted()) {
    const network = reader.object(name)
    // An empty text is Docker's word for none.
    const fields = ['IPAddress', 'GlobalIPv6Address'].filter((field) => network.raw(field) !== '')
    const ips = fields.flatMap((field) => network.parsedText(field, parseIp) ?? [])
    if (ips.length > 0) networks.set(name, ips)
  }
  return networks
}

/** `SIGQUIT`, `QUIT` or `3`. */
function signalNumber(text: string): number {
  if (/^\d+$/.test(text)) return Number(text)
  const name = text.toUpperCase()
  const known: Readonly<Record<string, number>> = constants.signals
  return known[name.startsWith('SIG') ? name : `SIG${name}`] ?? constants.signals.SIGTERM
}
