import type { Log } from '../base/log.ts'
import { formatFieldProblem } from '../model/manifest-error.ts'
import { ManifestReader } from '../model/manifest-reader.ts'
import type { NetworkSettings } from '../model/network.ts'
import { readNetworkSettings, unknownNetworkFields } from '../model/read-network-settings.ts'
import { NetworkError } from './check-network.ts'
import { readStateFile, writeStateFile } from './state-file.ts'

/** A network that was made while the daemon ran, as it was asked for. */
export interface RememberedNetwork {
  readonly name: string
  /** Who asked: a person over the control socket, or a manifest. */
  readonly origin: 'command' | 'manifest'
  /** The fields of {@link readNetworkSettings}, not checked. */
  readonly spec: Readonly<Record<string, unknown>>
}

/** Networks that must outlive the daemon although they stand in no configuration: `networks.json` in the state directory. */
export class NetworkStore {
  readonly #path: string
  readonly #networks: Map<string, RememberedNetwork>

  private constructor(path: string, networks: readonly RememberedNetwork[]) {
    this.#path = path
    this.#networks = new Map(networks.map((network) => [network.name, network]))
  }

  /** Reads the file. One that is not there, or is damaged (which is logged), holds none. */
  static open(path: string, log: Log): NetworkStore {
    return new NetworkStore(path, readRemembered(path, log))
  }

  /** By name, in the order in which they were made. */
  get networks(): ReadonlyMap<string, RememberedNetwork> {
    return this.#networks
  }

  /** Throws StateFileError; then nothing changed. */
  put(network: RememberedNetwork): void {
    this.#write([...[...this.#networks.values()].filter(({ name }) => name !== network.name), network])
    this.#networks.set(network.name, network)
  }

  /** Throws StateFileError; then nothing changed. */
  delete(name: string): void {
    this.#write([...this.#networks.values()].filter((network) => network.name !== name))
    this.#networks.delete(name)
  }

  #write(networks: readonly RememberedNetwork[]): void {
    writeStateFile(this.#path, `${JSON.stringify(networks)}\n`)
  }
}

/** Checks what somebody said about a network. Throws {@link NetworkError} that lists all problems. */
export function parseNetworkSpec({ name, spec }: Pick<RememberedNetwork, 'name' | 'spec'>): NetworkSettings {
  const reader = ManifestReader.of(spec)
  const settings = readNetworkSettings(reader, { name })
  const problems = [...unknownNetworkFields(spec), ...reader.problems]
  const [first] = problems
  if (!first) return settings
  throw new NetworkError(first.path, `network ${name}: ${problems.map(formatFieldProblem).join('; ')}`)
}

function readRemembered(path: string, log: Log): readonly RememberedNetwork[] {
  try {
    const networks = JSON.parse(readStateFile(path) ?? '[]') as RememberedNetwork[]
    const isWhole = networks.every(
      ({ name, origin, spec }) =>
        typeof name === 'string' && (origin === 'command' || origin === 'manifest') && typeof spec === 'object',
    )
    if (isWhole) return networks
    throw new TypeError('a field of a network is missing')
  } catch (error) {
    log.error({ file: path, err: error }, `Cannot read ${path}: the networks in it are forgotten`)
    return []
  }
}
