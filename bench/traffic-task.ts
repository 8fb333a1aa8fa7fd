/** What the client process is asked to do, in the namespace at a path. */
export interface TrafficTask {
  /**
   * `connect`: `count` new connections; `round-trips`: `count` requests on one; `until`: new connections until one is answered by
   * `answer`; `stream`: one after another for `forMs`.
   */
  readonly kind: 'connect' | 'round-trips' | 'until' | 'stream'
  readonly netns: string
  readonly protocol: 'tcp' | 'udp'
  readonly ip: string
  readonly port: number
  readonly count: number
  readonly timeoutMs: number
  /** connect: also send a request on each connection, and wait for its answer. */
  readonly request?: boolean
  /** connect: connection n comes from address n of this network (`172.18.0.0`), from 1 on. */
  readonly sources?: string
  /** until: an address. */
  readonly answer?: string
  /** stream, until: how long at most. */
  readonly forMs?: number
  /** until, stream: pause between connections, ms, so that others get the CPU. */
  readonly pauseMs?: number
}

/** What came of it. Times in ns, one for each connection or round trip that did not fail. */
export interface TrafficReply {
  /** TCP: from SYN to SYN-ACK, with the system calls. */
  readonly connectNs: readonly number[]
  /** From the call of connect() to the first byte of the endpoint; of round trips: from request to answer. */
  readonly firstByteNs: readonly number[]
  /** By the error's code, how many failed; `timeout` among them. */
  readonly failures: Readonly<Record<string, number>>
  readonly elapsedNs: number
  /** By whom connections were answered, in order. */
  readonly answers?: readonly string[]
  /** until: when the connection began that was answered as wanted, and how many were not. CLOCK_MONOTONIC, ns. */
  readonly foundAtNs?: string
  /** stream: in each tenth of a second, the slowest first byte in ms; failures count as the time that they took. */
  readonly slowestMs?: readonly number[]
}
