import type { IncomingMessage } from 'node:http'
import { load } from 'js-yaml'
import { ApiError } from './api-error.ts'
import { readProtobufBody } from './protobuf-body.ts'

/** Largest body taken, bytes (kube-apiserver: 3 MiB). */
const maxBody = 3 << 20
/** Objects and lists within each other; no object of Kubernetes comes near. */
const maxDepth = 100

/** Reads the body of a request, JSON or YAML by its media type; undefined without one. Throws {@link ApiError}. */
export async function readBody(request: IncomingMessage): Promise<unknown> {
  const { 'content-encoding': encoding = 'identity', 'content-length': announced } = request.headers
  if (encoding !== 'identity')
    throw new ApiError('UnsupportedMediaType', `the content encoding ${JSON.stringify(encoding)} is not read here`)
  if (Number(announced) > maxBody) throw tooLarge()
  const bytes = await readBytes(request)
  const type = mediaType(request)
  if (bytes.length === 0) return undefined
  if (type === 'application/vnd.kubernetes.protobuf') return readProtobufBody(bytes)
  if (!/[/+](json|yaml)$/.test(type)) {
    throw new ApiError(
      'UnsupportedMediaType',
      `${JSON.stringify(type)} is not read here (expected application/json or application/yaml)`,
    )
  }
  const text = decodeUtf8(bytes)
  if (text.trim() === '') return undefined
  const yaml = type === 'application/yaml' || type === 'application/apply-patch+yaml'
  // JSON is YAML, and mostly what is sent.
  if (!yaml || /^\s*[{[]/.test(text)) {
    refuseDepth(text)
    try {
      return JSON.parse(text)
    } catch (cause) {
      if (!yaml) throw new ApiError('BadRequest', `the body is not JSON: ${(cause as Error).message}`, { cause })
    }
  }
  try {
    const value = load(text)
    // What aliases make of a small text may be endless; written out as JSON it is bounded.
    const json = JSON.stringify(value, boundedReplacer())
    refuseDepth(json)
    return JSON.parse(json)
  } catch (cause) {
    if (cause instanceof ApiError) throw cause
    throw new ApiError('BadRequest', `the body is not YAML: ${(cause as Error).message}`, { cause })
  }
}

/** The media type of a body, without its parameters: `application/json`. */
export function mediaType(request: IncomingMessage): string {
  return (request.headers['content-type'] ?? 'application/json').split(';')[0]?.trim().toLowerCase() ?? ''
}

async function readBytes(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > maxBody) throw tooLarge()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function tooLarge(): ApiError {
  return new ApiError('RequestEntityTooLarge', `the body is larger than ${maxBody} bytes`)
}

function decodeUtf8(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new ApiError('BadRequest', 'the body is not UTF-8', { cause })
  }
}

function refuseDepth(text: string): void {
  let depth = 0
  let inString = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (inString) {
      if (code === 0x5c) i++
      else if (code === 0x22) inString = false
    } else if (code === 0x22) inString = true
    else if (code === 0x7b || code === 0x5b) {
      if (++depth > maxDepth) throw new ApiError('BadRequest', `the body is nested deeper than ${maxDepth} levels`)
    } else if (code === 0x7d || code === 0x5d) depth--
  }
}

function boundedReplacer(): (key: string, value: unknown) => unknown {
  let nodes = 0
  return (_key, value) => {
    if (++nodes > 200_000) throw new ApiError('RequestEntityTooLarge', 'the YAML has too many nodes')
    return value
  }
}
