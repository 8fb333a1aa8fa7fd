import { readFileSync } from 'node:fs'
import { Agent, request as httpsRequest, type RequestOptions } from 'node:https'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { benchSlice } from './api-objects.ts'

/** What the process of the clients says of a run of writes. */
export interface WriteFigures {
  readonly writes: number
  readonly tookMs: number
  readonly p50: number
  readonly p99: number
  /** Lines that all watchers had in that time and shortly after it. */
  readonly watched: number
  /** Watches that the server ended. */
  readonly dropped: number
}

/** Told as words: the folder of the server, its port, the number of Services, and of endpoints of each. */
const [folder = '', port = '0', services = '0', endpoints = '0'] = process.argv.slice(2)
const token = readFileSync(join(folder, 'admin.token'), 'utf8').trim()
const common: RequestOptions = {
  host: '127.0.0.1',
  port: Number(port),
  rejectUnauthorized: false,
  headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
}
const slices = '/apis/discovery.k8s.io/v1/endpointslices'
const inDefault = '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices'
let lines = 0
let dropped = 0
/** So that no write is one that changes nothing. */
let round = 10

process.on('message', (message: { readonly watchers?: number; readonly lanes?: number; readonly ms?: number }) => {
  void answer(message)
})
process.send?.({ ready: true })

async function answer(message: {
  readonly watchers?: number
  readonly lanes?: number
  readonly ms?: number
}): Promise<void> {
  if (message.watchers !== undefined) {
    const version = await listSlices()
    await Promise.all(Array.from({ length: message.watchers }, () => watch(version)))
    process.send?.({ watching: message.watchers })
    return
  }
  process.send?.({ figures: await writeAll(message.lanes ?? 1, message.ms ?? 1000) })
}

/** Lists the slices; returns the revision. What it takes is told to whoever asked for the first watch. */
async function listSlices(): Promise<string> {
  const began = performance.now()
  const text = await call({ method: 'GET', path: slices })
  process.send?.({ list: { ms: performance.now() - began, bytes: text.length } })
  const { metadata } = JSON.parse(text) as { metadata: { resourceVersion: string } }
  return metadata.resourceVersion
}

/** Reads no more of a watch than how many lines there are: a hundred clients are no part of what is measured. */
function watch(resourceVersion: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: Number(port), rejectUnauthorized: false })
    const path = `${slices}?watch=1&resourceVersion=${resourceVersion}`
    socket.write(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer ${token}\r\n\r\n`)
    socket.once('data', (answer: Buffer) => {
      if (!answer.toString('latin1').startsWith('HTTP/1.1 200'))
        return reject(new Error(`a watch was answered with ${answer.toString('latin1')}`))
      resolve()
    })
    // An event ends with "}" and a line feed, which in JSON stand together nowhere else; pieces of HTTP end with CR and LF.
    let last = 0
    socket.on('data', (chunk: Buffer) => {
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1))
        if ((at === 0 ? last : chunk[at - 1]) === 125) lines++
      last = chunk.at(-1) ?? last
    })
    socket.on('close', () => dropped++)
    socket.on('error', reject)
  })
}

/** Writes slices from so many connections at a time, each the next as soon as one is acknowledged. */
async function writeAll(lanes: number, ms: number): Promise<WriteFigures> {
  const agent = new Agent({ keepAlive: true, maxSockets: lanes })
  const delays: number[] = []
  const linesBefore = lines
  const droppedBefore = dropped
  const began = performance.now()
  let next = 0
  const lane = async (): Promise<void> => {
    while (performance.now() - began < ms) {
      const index = next++
      const body = benchSlice(
        index % Number(services),
        Number(endpoints),
        1 + Math.floor(index / Number(services)) + round,
      )
      const start = performance.now()
      await call({ method: 'PUT', path: `${inDefault}/${body.metadata.name}`, agent }, JSON.stringify(body))
      delays.push(performance.now() - start)
    }
  }
  round += 7
  await Promise.all(Array.from({ length: lanes }, lane))
  const tookMs = performance.now() - began
  await new Promise((resolve) => setTimeout(resolve, 500))
  agent.destroy()
  delays.sort((a, b) => a - b)
  const at = (share: number): number => delays[Math.floor(share * (delays.length - 1))] ?? Number.NaN
  return {
    writes: delays.length,
    tookMs,
    p50: at(0.5),
    p99: at(0.99),
    watched: lines - linesBefore,
    dropped: dropped - droppedBefore,
  }
}

function call(options: RequestOptions, body?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest({ ...common, ...options }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8')
        if (response.statusCode === 200) resolve(text)
        else reject(new Error(`${options.method} ${options.path}: ${response.statusCode} ${text}`))
      })
    })
    request.on('error', reject)
    request.end(body)
  })
}
