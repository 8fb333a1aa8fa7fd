import { request as httpRequest, type IncomingMessage } from 'node:http'

/** The daemon cannot be reached, or refused. The message is for the user. */
export class ControlError extends Error {
  override readonly name = 'ControlError'
}

/** Asks the daemon over its control socket and returns the JSON that it answers. Throws {@link ControlError}. */
export async function callDaemon<T>(
  socketPath: string,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  body?: unknown,
): Promise<T> {
  const response = await send(socketPath, method, path, body)
  const chunks: Buffer[] = []
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk)
  const answer = JSON.parse(Buffer.concat(chunks).toString('utf8')) as T & { error?: string }
  if ((response.statusCode ?? 500) >= 400)
    throw new ControlError(answer.error ?? `the daemon answered ${response.statusCode}`)
  return answer
}

/** Writes what the daemon streams to `into` until the daemon or the reader ends it. Throws {@link ControlError}. */
export async function streamFromDaemon(socketPath: string, path: string, into: NodeJS.WritableStream): Promise<void> {
  const response = await send(socketPath, 'GET', path, undefined)
  for await (const chunk of response as AsyncIterable<Buffer>) into.write(chunk)
}

function send(socketPath: string, method: string, path: string, body: unknown): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ socketPath, method, path, headers: { 'content-type': 'application/json' } }, resolve)
    request.on('error', (error: NodeJS.ErrnoException) =>
      reject(new ControlError(explain(socketPath, error), { cause: error })),
    )
    request.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

function explain(socketPath: string, error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ENOENT':
    case 'ECONNREFUSED':
      return `no daemon listens on ${socketPath}; start one with "fairlead run", or name its socket with --socket`
    case 'EACCES':
      return `not allowed to use ${socketPath}; run as root`
    default:
      return `cannot talk to the daemon on ${socketPath}: ${error.message}`
  }
}
