import { Agent, request, type IncomingMessage, type RequestOptions } from 'node:http'
import { EngineError } from './engine-error.ts'
import { readEvent, type EngineEvent } from './engine-event.ts'

/** An engine that says nothing for this long is asked in vain, ms. */
const answerMs = 10_000
/** No answer, and no line of the event stream, is longer: what is, is none of Docker's. */
const mostBytes = 64 << 20

/** How {@link EngineClient.events} is called. */
export interface EventStreamOptions {
  /** Events since then come first: what happens while the stream begins is not lost. */
  readonly since: Date
  readonly signal: AbortSignal
  /** The stream is there. */
  readonly onOpen: () => void
  readonly onEvent: (event: EngineEvent) => void
}

/** Docker's Engine API, or that of Podman, over its unix socket. Of the version that the engine likes best: these calls have not changed since 1.24. */
export class EngineClient implements Disposable {
  readonly #socketPath: string
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 8 })

  constructor(socketPath: string) {
    this.#socketPath = socketPath
  }

  /** Ends connections that wait for the next request. */
  [Symbol.dispose](): void {
    this.#agent.destroy()
  }

  /** All containers, stopped ones too. Throws {@link EngineError}. */
  async listContainers(signal: AbortSignal): Promise<readonly unknown[]> {
    const list = await this.#read('/containers/json?all=true', signal)
    if (Array.isArray(list)) return list
    throw new EngineError('its list of containers is no list')
  }

  /** One container; undefined: there is none with this id. Throws {@link EngineError}. */
  async inspectContainer(id: string, signal: AbortSignal): Promise<unknown> {
    try {
      return await this.#read(`/containers/${encodeURIComponent(id)}/json`, signal)
    } catch (error) {
      if (error instanceof EngineError && error.status === 404) return undefined
      throw error
    }
  }

  /** Gives events of containers and networks until the stream ends; then it resolves. Throws {@link EngineError}. */
  async events({ since, signal, onOpen, onEvent }: EventStreamOptions): Promise<void> {
    const filters = encodeURIComponent(JSON.stringify({ type: ['container', 'network'] }))
    const path = `/events?since=${(since.getTime() / 1000).toFixed(3)}&filters=${filters}`
    // A stream that lasts for days must not take one of the few connections of the others.
    const response = await this.#open(path, { signal, agent: false })
    onOpen()
    let rest = ''
    try {
      for await (const chunk of response.setEncoding('utf8')) {
        const lines = (rest + chunk).split('\n')
        rest = lines.pop() ?? ''
        if (rest.length > mostBytes) throw new EngineError('a line of its event stream does not end')
        for (const line of lines) {
          const event = line.trim() === '' ? undefined : readEvent(parseJson(line))
          if (event) onEvent(event)
        }
      }
    } catch (error) {
      throw asEngineError(error)
    } finally {
      response.destroy()
    }
  }

  async #read(path: string, signal: AbortSignal): Promise<unknown> {
    const response = await this.#open(path, { signal, agent: this.#agent })
    return parseJson(await readText(response, signal))
  }

  async #open(path: string, options: Pick<RequestOptions, 'agent' | 'signal'>): Promise<IncomingMessage> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = { Host: 'docker' }
      const asked = request({ ...options, socketPath: this.#socketPath, path, headers })
      const timer = setTimeout(() => asked.destroy(new EngineError(`gave no answer within ${answerMs} ms`)), answerMs)
      asked.once('response', (answer) => {
        clearTimeout(timer)
        resolve(answer)
      })
      asked.once('error', (error) => {
        clearTimeout(timer)
        reject(asEngineError(error))
      })
      asked.end()
    })
    const { statusCode: status = 0 } = response
    if (status === 200) return response
    const body = (await readText(response, options.signal)).slice(0, 200)
    throw new EngineError(`answered ${status} to ${path.replace(/\?.*/, '')}: ${body.trim()}`, { status })
  }
}

async function readText(response: IncomingMessage, signal: AbortSignal | undefined): Promise<string> {
  const timer = setTimeout(
    () => response.destroy(new EngineError(`its answer did not end within ${answerMs} ms`)),
    answerMs,
  )
  let text = ''
  try {
    for await (const chunk of response.setEncoding('utf8')) {
      text += String(chunk)
      if (text.length > mostBytes) throw new EngineError(`its answer is longer than ${mostBytes} bytes`)
    }
    signal?.throwIfAborted()
    return text
  } catch (error) {
    throw asEngineError(error)
  } finally {
    clearTimeout(timer)
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new EngineError(`said what is not JSON: ${text.slice(0, 80)}`, { cause: error })
  }
}

function asEngineError(error: unknown): EngineError {
  if (error instanceof EngineError) return error
  return new EngineError(error instanceof Error ? error.message : String(error), { cause: error })
}
