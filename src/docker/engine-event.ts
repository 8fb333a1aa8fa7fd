import { ManifestReader } from '../model/manifest-reader.ts'

/** Something happened to a container: what it is now has to be asked. */
export interface EngineEvent {
  readonly container: string
  /** `start`, `die`, `health_status`; of a container's network: `connect`, `disconnect`. */
  readonly action: string
  /** Of `kill`: the number of the signal. */
  readonly signal: number | undefined
}

/** Actions after which a container is another one for us. Those of `docker exec` come with each health check, and are none. */
const actions: ReadonlySet<string> = new Set(
  'create start restart kill stop die destroy pause unpause rename update health_status connect disconnect'.split(' '),
)

/** Reads an element of the event stream; undefined: it says nothing about where a container is reached. */
export function readEvent(value: unknown): EngineEvent | undefined {
  const reader = ManifestReader.of(value)
  const type = reader.text('Type')
  // `health_status: healthy`
  const action = reader.text('Action')?.replace(/:.*/, '') ?? ''
  if (!actions.has(action)) return undefined
  const actor = reader.object('Actor')
  const attributes = actor.object('Attributes')
  const container = type === 'network' ? attributes.text('container') : actor.text('ID')
  if (container === undefined || (type !== 'network' && type !== 'container')) return undefined
  const signal = Number(attributes.text('signal'))
  return { container, action, signal: action === 'kill' && Number.isInteger(signal) ? signal : undefined }
}
