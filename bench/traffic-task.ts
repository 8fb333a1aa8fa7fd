/** What the client process is asked to do, in the namespace at a path. */
export interface TrafficTask {
  /** `connect`: `count` new connections; `round-trips`: `count` requests on one. */
  readonly kind: 'connect' | 'round-trips'
  readonly netns: string
  readonly protocol: 'tcp' | 'udp'
  readonly ip: string
  readonly port: number
  readonly count: number
  readonly timeoutMs: number
  /** connect: also send a request on each connection, and wait for its answer. */
  readonly request?: boolean
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
}
