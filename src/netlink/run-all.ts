import type { NetlinkMessage } from './message.ts'
import type { NetlinkRequest, NetlinkSocket } from './netlink-socket.ts'

/** Several requests of one datagram failed, each for its own reason. */
export class NetlinkRequestsError extends AggregateError {
  override readonly name = 'NetlinkRequestsError'
}

/** Requests in one datagram: a few hundred answers fit any receive buffer. */
const chunkSize = 256

/**
 * Runs many requests, pipelined. All of them are tried; then the one error is thrown as it is, or several gathered in a
 * {@link NetlinkRequestsError}. Resolves with each request's answer, in order.
 */
export async function runAll(
  socket: Pick<NetlinkSocket, 'pipeline'>,
  requests: readonly NetlinkRequest[],
): Promise<NetlinkMessage[][]> {
  const answers: NetlinkMessage[][] = []
  const errors: Error[] = []
  for (const result of await runEach(socket, requests)) {
    if (result instanceof Error) errors.push(result)
    else answers.push(result)
  }
  if (errors.length === 1) throw errors[0]!
  if (errors.length > 1) throw new NetlinkRequestsError(errors, summary(errors))
  return answers
}

/** A kernel that lacks something refuses thousands of requests for the same reason. */
function summary(errors: readonly Error[]): string {
  const first = errors.slice(0, 5).map(({ message }) => message)
  return errors.length > first.length
    ? `${first.join('; ')}; and ${errors.length - first.length} more`
    : first.join('; ')
}

/** As {@link runAll}, with each request's answer or its own error, in order: for requests that are not about one thing. */
export async function runEach(
  socket: Pick<NetlinkSocket, 'pipeline'>,
  requests: readonly NetlinkRequest[],
): Promise<(NetlinkMessage[] | Error)[]> {
  const results: (NetlinkMessage[] | Error)[] = []
  for (let start = 0; start < requests.length; start += chunkSize) {
    results.push(...(await socket.pipeline(requests.slice(start, start + chunkSize))))
  }
  return results
}
