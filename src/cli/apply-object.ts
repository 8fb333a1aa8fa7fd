import { callApi } from './api-client.ts'
import { pathOf, type NamedObject } from './api-objects.ts'

/** How an object is applied. */
export interface ApplyOptions {
  /** The socket of the embedded API. */
  readonly socket: string
  /** Takes fields over that others set. */
  readonly force: boolean
  readonly dryRun: boolean
}

/** Creates or changes one object in the embedded API (server-side apply). Throws ControlError with what it refuses. */
export async function applyObject(
  { type, namespace, name, object }: NamedObject,
  { socket, force, dryRun }: ApplyOptions,
): Promise<void> {
  await callApi({
    socket,
    method: 'PATCH',
    path: pathOf(type, namespace, name),
    query: {
      fieldManager: 'fairlead',
      fieldValidation: 'Strict',
      force: String(force),
      ...(dryRun && { dryRun: 'All' }),
    },
    body: { type: 'application/apply-patch+yaml', value: object },
  })
}
