/** A DNS address could not be listened on. The message says which one, why, and what to do. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
  readonly code: string | undefined

  constructor(
    where: { readonly transport: 'udp' | 'tcp'; readonly address: string; readonly port: number },
    cause: Error,
  ) {
    const code = (cause as NodeJS.ErrnoException).code
    const { transport, address, port } = where
    const advice = code === undefined ? undefined : adviceByCode[code]
    super(`cannot listen on ${transport} ${address} port ${port} for DNS: ${advice?.(where) ?? cause.message}`, {
      cause,
    })
    this.code = code
  }
}

const adviceByCode: Readonly<Record<string, (where: { address: string; port: number }) => string>> = {
  EADDRINUSE: ({ port }) =>
    `another program already listens there; find it with "ss -lunpt 'sport = :${port}'" and stop it, or choose another address`,
  EADDRNOTAVAIL: ({ address }) =>
    `no interface has this address; add it (for example "ip address add ${address} dev lo") or choose another one`,
  EACCES: ({ port }) => `port ${port} needs root or CAP_NET_BIND_SERVICE`,
}
