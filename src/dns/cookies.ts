import { createHmac, randomBytes } from 'node:crypto'

/** Octets of our part: RFC 7873 section 4.2 allows 8 to 32. */
const serverCookieSize = 16

/**
 * Server cookies (RFC 7873). A client that gets its own cookie back knows that the reply is not from somebody who could not
 * see the request. Ours lives as long as the process: to one that we do not know we answer as to none, with a new one, so a
 * restart costs nobody anything.
 */
export class Cookies {
  readonly #secret = randomBytes(32)

  /** Our part for a client; `address` as its socket says it. */
  serverCookie(clientCookie: Uint8Array, address: string): Uint8Array {
    const hash = createHmac('sha256', this.#secret).update(clientCookie).update(address).digest()
    return hash.subarray(0, serverCookieSize)
  }
}
