import type { Log } from '../base/log.ts'
import type { DhcpLink, LinkListener, OpenLink } from './link.ts'

/** What a {@link LinkLine} needs. */
export interface LinkLineOptions {
  readonly link: DhcpLink
  readonly onIp: LinkListener['onIp']
  readonly onArp: LinkListener['onArp']
  readonly log: Log
}

/** A link that is opened when there is something to say, and closed when nobody has to listen any more. */
export class LinkLine {
  readonly #options: LinkLineOptions
  #open: OpenLink | undefined
  /** Nothing could be sent, and that was logged. */
  #silent = false

  constructor(options: LinkLineOptions) {
    this.#options = options
  }

  /** A link that is down or gone is no reason to stop: what was not sent is sent again like what was not answered. */
  send(send: (link: OpenLink) => void): void {
    const { link, onIp, onArp } = this.#options
    try {
      this.#open ??= link.open({ onIp, onArp, onError: (error) => this.#fail(error) })
      send(this.#open)
      this.#silent = false
    } catch (error) {
      this.#fail(error)
    }
  }

  close(): void {
    this.#open?.[Symbol.dispose]()
    this.#open = undefined
  }

  #fail(error: unknown): void {
    // The sockets may belong to a link that was replaced by another of the same name: the next try opens new ones.
    this.close()
    if (!this.#silent) this.#options.log.warn({ err: error }, 'Cannot speak DHCP on the link')
    this.#silent = true
  }
}
