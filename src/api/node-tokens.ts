import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { isJsonObject, textAt } from './kube-object.ts'
import { digestOf, readText, writeSecret } from './secret-file.ts'

/** Who has a node's token: as Kubernetes calls the user of a kubelet. */
export type NodeRole = `system:node:${string}`

/** A node that has a token. */
export interface NodeToken {
  readonly node: string
  /** When the newest was made, RFC 3339. */
  readonly issued: string
  /** The newest was not used yet: the one before is good until then. */
  readonly pending: boolean
}

interface Entry {
  readonly issued: string
  /** SHA-256 of the newest token, in hex. */
  readonly digest: string
  /** Of the one before, until the newest is used. */
  readonly previous: string | undefined
}

/**
 * The tokens of nodes, in a file that has their digests only. A node that is given a new one goes on with the old one until it
 * has used the new one for the first time, so that nothing breaks off while the file is on its way. Whose token ends loses
 * its connections at once.
 */
export class NodeTokens {
  readonly #file: string
  readonly #entries: Map<string, Entry>
  /** Open connections, by the digest of the token that was shown on them. */
  readonly #sockets = new Map<string, Set<Socket>>()

  private constructor(file: string, entries: Map<string, Entry>) {
    this.#file = file
    this.#entries = entries
  }

  /** Reads the file, if there is one. Throws when it is damaged: nodes would be locked out without a word. */
  static open(file: string): NodeTokens {
    const text = readText(file)
    const raw: unknown = text === undefined ? {} : JSON.parse(text)
    if (!isJsonObject(raw)) throw new TypeError(`${file} is damaged: expected an object of nodes`)
    const entries = Object.entries(raw).map(([node, value]): [string, Entry] => {
      const digest = textAt(value, 'digest')
      if (!/^[0-9a-f]{64}$/.test(digest)) throw new TypeError(`${file} is damaged: ${node} has no digest of a token`)
      return [node, { issued: textAt(value, 'issued'), digest, previous: textAt(value, 'previous') || undefined }]
    })
    return new NodeTokens(file, new Map(entries))
  }

  /** Nodes with a token, by name. */
  list(): readonly NodeToken[] {
    return [...this.#entries]
      .map(([node, { issued, previous }]) => ({ node, issued, pending: previous !== undefined }))
      .sort((a, b) => (a.node < b.node ? -1 : 1))
  }

  /** Makes a token for a node. It is nowhere kept: who loses it makes another. */
  issue(node: string, now: Date): string {
    const token = randomBytes(32).toString('base64url')
    const before = this.#entries.get(node)
    // Of two new ones that were never used, only the newer one counts.
    const previous = before?.previous ?? before?.digest
    const digest = digestOf(token).toString('hex')
    this.#set(node, { issued: now.toISOString(), digest, previous })
    if (before?.previous !== undefined) this.#disconnect(before.digest)
    return token
  }

  /** Ends a node's tokens, and the connections made with them. False when it had none. */
  revoke(node: string): boolean {
    const entry = this.#entries.get(node)
    if (!entry) return false
    this.#set(node, undefined)
    this.#disconnect(entry.digest)
    if (entry.previous !== undefined) this.#disconnect(entry.previous)
    return true
  }

  /** Whose token this digest is of; undefined: nobody's. */
  authenticate(digest: Buffer, { socket }: Pick<IncomingMessage, 'socket'>): NodeRole | undefined {
    const shown = digest.toString('hex')
    for (const [node, entry] of this.#entries) {
      if (shown !== entry.digest && shown !== entry.previous) continue
      if (shown === entry.digest && entry.previous !== undefined) {
        this.#set(node, { ...entry, previous: undefined })
        this.#disconnect(entry.previous)
      }
      this.#note(shown, socket)
      return `system:node:${node}`
    }
    return undefined
  }

  #note(digest: string, socket: Socket): void {
    const sockets = this.#sockets.get(digest) ?? new Set()
    this.#sockets.set(digest, sockets)
    if (sockets.has(socket)) return
    sockets.add(socket)
    socket.once('close', () => {
      sockets.delete(socket)
      if (sockets.size === 0 && this.#sockets.get(digest) === sockets) this.#sockets.delete(digest)
    })
  }

  #disconnect(digest: string): void {
    for (const socket of this.#sockets.get(digest) ?? []) socket.destroy()
  }

  #set(node: string, entry: Entry | undefined): void {
    const entries = new Map(this.#entries)
    if (entry) entries.set(node, entry)
    else entries.delete(node)
    // First on the disk: what was answered holds after a crash.
    writeSecret(this.#file, `${JSON.stringify(Object.fromEntries(entries), undefined, 2)}\n`)
    if (entry) this.#entries.set(node, entry)
    else this.#entries.delete(node)
  }
}
