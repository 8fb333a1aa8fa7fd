import { request as httpRequest, type IncomingMessage } from 'node:http'
import { Option } from 'commander'
import { ControlError } from './control-client.ts'

/** `--api-socket PATH`, with the default of the configuration. */
export function apiSocketOption(): Option {
  return new Option('--api-socket <path>', 'the socket of the embedded API')
    .default('/run/fairlead/api.sock')
    .env('FAIRLEAD_API_SOCKET')
}

/** One request to the embedded API. */
export interface ApiCall {
  readonly socket: string
  readonly method: 'GET' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly accept?: string
  readonly body?: { readonly type: string; readonly value: unknown }
}

/** Asks the embedded API, and returns the JSON that it answers. Throws {@link ControlError} with what it refuses. */
export async function callApi<T>(call: ApiCall): Promise<T> {
  const response = await openApi(call)
  const chunks: Buffer[] = []
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk)
  const answer = JSON.parse(Buffer.concat(chunks).toString('utf8')) as T & { message?: string }
  if ((response.statusCode ?? 500) >= 400)
    throw new ControlError(answer.message ?? `the API answered ${response.statusCode}`)
  return answer
}

/** The lines of a watch, parsed, until the API or the caller ends it. Throws {@link ControlError}. */
export async function* watchApi<T>(call: ApiCall): AsyncGenerator<T, void> {
  const response = await openApi(call)
  if ((response.statusCode ?? 500) >= 400) throw new ControlError(`the API answered ${response.statusCode}`)
  response.setEncoding('utf8')
  let text = ''
  for await (const chunk of response as AsyncIterable<string>) {
    const lines = (text + chunk).split('\n')
    text = lines.pop() ?? ''
    for (const line of lines) yield JSON.parse(line) as T
  }
}

/** The answer to a request, whatever its status, with a body that is not read yet. Throws {@link ControlError}. */
export function openApi({
  socket,
  method,
  path,
  query = {},
  accept = 'application/json',
  body,
}: ApiCall): Promise<IncomingMessage> {
  const search = new URLSearchParams(query).toString()
  return new Promise((resolve, reject) => {
    const headers = { accept, 'user-agent': 'fairlead', ...(body && { 'content-type': body.type }) }
    const request = httpRequest(
      { socketPath: socket, method, path: search === '' ? path : `${path}?${search}`, headers },
      resolve,
    )
    request.on('error', (error: NodeJS.ErrnoException) => {
      const none = error.code === 'ENOENT' || error.code === 'ECONNREFUSED'
      const why = none
        ? `no embedded API listens on ${socket} (is a daemon running, and without "api: {enabled: false}"? A daemon that follows another API server has none unless it is enabled)`
        : `cannot talk to the API on ${socket}: ${error.message}`
      reject(new ControlError(why, { cause: error }))
    })
    request.end(body === undefined ? undefined : JSON.stringify(body.value))
  })
}
