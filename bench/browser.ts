import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** How a page is looked at. */
export interface View {
  readonly width: number
  readonly height: number
  readonly scheme: 'light' | 'dark'
}

/** A page in a headless Chromium, driven by the DevTools protocol. Dispose it to end the browser. */
export class BrowserPage implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #socket: WebSocket
  readonly #folder: string
  readonly #waiting = new Map<number, (message: { result?: unknown; error?: { message: string } }) => void>()
  /** What the page said went wrong. */
  readonly errors: string[] = []
  #loaded = Promise.withResolvers<void>()
  #session: string | undefined
  #id = 0

  private constructor(child: ChildProcess, socket: WebSocket, folder: string) {
    this.#child = child
    this.#socket = socket
    this.#folder = folder
    socket.addEventListener('message', ({ data }) => this.#hear(JSON.parse(String(data)) as Message))
    // Nobody may wait for a page just then.
    this.#loaded.promise.catch(() => {})
    socket.addEventListener('close', () => this.#gone('the browser closed the connection'))
  }

  /** Starts a browser by its path or name. */
  static async open(browser: string): Promise<BrowserPage> {
    const folder = mkdtempSync(join(tmpdir(), 'browser-'))
    // Root has no sandbox, and the page is our own.
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--remote-debugging-port=0']
    const child = spawn(browser, [...flags, `--user-data-dir=${folder}`, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      // No folders elsewhere.
      env: { ...process.env, TMPDIR: folder },
    })
    try {
      const socket = new WebSocket(await debuggerOf(child))
      await once(socket, 'open')
      const page = new BrowserPage(child, socket, folder)
      const { targetId } = await page.#call<{ targetId: string }>('Target.createTarget', { url: 'about:blank' })
      const { sessionId } = await page.#call<{ sessionId: string }>('Target.attachToTarget', {
        targetId,
        flatten: true,
      })
      page.#session = sessionId
      await page.#call('Page.enable')
      await page.#call('Runtime.enable')
      return page
    } catch (error) {
      child.kill('SIGKILL')
      throw error
    }
  }

  /** Loads a page as it is seen in a view. */
  async load(url: string, { width, height, scheme }: View): Promise<void> {
    this.#loaded = Promise.withResolvers()
    this.#loaded.promise.catch(() => {})
    await this.#call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false })
    const features = [{ name: 'prefers-color-scheme', value: scheme }]
    await this.#call('Emulation.setEmulatedMedia', { features })
    await this.#call('Page.navigate', { url })
    await this.#loaded.promise
  }

  /** The value of an expression in the page. */
  async evaluate(expression: string): Promise<unknown> {
    const { result, exceptionDetails } = await this.#call<{
      result: { value: unknown }
      exceptionDetails?: { text: string }
    }>('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true })
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.text}`)
    return result.value
  }

  /** A picture of what is in the view (PNG). */
  async screenshot(): Promise<Buffer> {
    const { data } = await this.#call<{ data: string }>('Page.captureScreenshot', { format: 'png' })
    return Buffer.from(data, 'base64')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close()
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGKILL')
      await once(this.#child, 'exit')
    }
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }

  async #call<T>(method: string, params: object = {}): Promise<T> {
    const id = ++this.#id
    const answer = new Promise<{ result?: unknown; error?: { message: string } }>((resolve) =>
      this.#waiting.set(id, resolve),
    )
    this.#socket.send(
      JSON.stringify({ id, method, params, ...(this.#session !== undefined && { sessionId: this.#session }) }),
    )
    if (this.#socket.readyState !== WebSocket.OPEN) this.#gone('there is no connection to the browser')
    const { result, error } = await answer
    if (error) throw new Error(`${method}: ${error.message}`)
    return result as T
  }

  /** Nobody will answer what was asked. */
  #gone(message: string): void {
    for (const answer of this.#waiting.values()) answer({ error: { message } })
    this.#waiting.clear()
    this.#loaded.reject(new Error(message))
  }

  #hear({ id, method, params, ...answer }: Message): void {
    if (id !== undefined) {
      this.#waiting.get(id)?.(answer)
      this.#waiting.delete(id)
    } else if (method === 'Page.loadEventFired') this.#loaded.resolve()
    else if (method === 'Runtime.exceptionThrown') this.errors.push(JSON.stringify(params))
    else if (method === 'Runtime.consoleAPICalled' && (params as { type?: string }).type === 'error')
      this.errors.push(JSON.stringify(params))
  }
}

interface Message {
  readonly id?: number
  readonly method?: string
  readonly params?: unknown
  readonly result?: unknown
  readonly error?: { readonly message: string }
}

/** The address that the browser says on its error stream. */
async function debuggerOf(child: ChildProcess): Promise<string> {
  if (!child.stderr) throw new Error('the browser has no error stream')
  const said: string[] = []
  for await (const line of createInterface(child.stderr)) {
    const address = /DevTools listening on (ws:\S+)/.exec(line)?.[1]
    if (address !== undefined) return address
    said.push(line)
  }
  throw new Error(`the browser ended: ${said.slice(-5).join('; ')}`)
}
