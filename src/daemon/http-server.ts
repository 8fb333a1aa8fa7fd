import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'

/** What answers one route: a JSON value, a text, or a stream that it writes itself. */
export type Answer =
  | { readonly status?: number; readonly json: unknown }
  | { readonly status?: number; readonly text: string; readonly type?: string }
  | { readonly stream: (response: ServerResponse) => void }

/** A request that cannot be served, with the status to answer. */
export class HttpError extends Error {
  override readonly name = 'HttpError'
  readonly status: number

  constructor(status: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.status = status
  }
}

export interface Request {
  /** Groups of the route's pattern. */
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  /** The parsed JSON body; undefined without one. */
  readonly body: unknown
}

/** `GET /pods/:namespace/:name` and what answers it. */
export type Routes = Readonly<Record<string, (request: Request) => Answer | Promise<Answer>>>

/** Largest body taken, bytes. */
const maxBody = 1 << 20

/** A small HTTP server over a table of routes. Errors become JSON `{error}` with their status. */
export function createHttpServer(routes: Routes, onError: (error: unknown) => void): Server {
  const compiled = Object.entries(routes).map(([route, handler]) => {
    const [method = '', pattern = ''] = route.split(' ')
    return { method, expression: new RegExp(`^${pattern.replaceAll(/:(\w+)/g, '(?<$1>[^/]+)')}$`), handler }
  })
  return createServer({ requestTimeout: 30_000 }, (request, response) => {
    void serve(request, response)
  })

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const url = new URL(request.url ?? '/', 'http://localhost')
      const onPath = compiled.filter(({ expression }) => expression.test(url.pathname))
      if (onPath.length === 0) throw new HttpError(404, `no such path: ${url.pathname}`)
      const route = onPath.find(({ method }) => method === request.method)
      if (!route)
        throw new HttpError(
          405,
          `${url.pathname} takes ${onPath.map((r) => r.method).join(', ')}, not ${request.method}`,
        )
      const groups = route.expression.exec(url.pathname)?.groups ?? {}
      const params = Object.fromEntries(Object.entries(groups).map(([key, value]) => [key, decode(value)]))
      write(response, await route.handler({ params, query: url.searchParams, body: await readBody(request) }))
    } catch (error) {
      const status = error instanceof HttpError ? error.status : 500
      if (status === 500) onError(error)
      if (response.headersSent) response.destroy()
      else write(response, { status, json: { error: error instanceof Error ? error.message : String(error) } })
    }
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch (error) {
    throw new HttpError(400, `"${text}" in the path is not percent-encoded UTF-8`, { cause: error })
  }
}

function write(response: ServerResponse, answer: Answer): void {
  if ('stream' in answer) return answer.stream(response)
  const [text, type] =
    'json' in answer
      ? [`${JSON.stringify(answer.json)}\n`, 'application/json']
      : [answer.text, answer.type ?? 'text/plain; charset=utf-8']
  response.writeHead(answer.status ?? 200, { 'content-type': type, 'x-content-type-options': 'nosniff' })
  response.end(text)
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > maxBody) throw new HttpError(413, `the body is larger than ${maxBody} bytes`)
    chunks.push(chunk)
  }
  if (length === 0) return undefined
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch (error) {
    throw new HttpError(400, `the body is not JSON: ${(error as Error).message}`)
  }
}
