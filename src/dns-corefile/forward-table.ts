import type { Log } from '../base/log.ts'
import { ResolvConf } from '../dns-forward/resolv-conf.ts'
import { plainUpstream, type Upstream } from '../dns-forward/upstream.ts'
import { isAtOrBelow, type Name, type NameKey } from '../dns-message/name.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { ForwardBlock } from './corefile.ts'

interface Route {
  readonly block: ForwardBlock
  readonly file: ResolvConf | undefined
  /** Of `round_robin`: who is first. */
  turn: number
}

/** Which resolvers the `forward` lines of a server block name, and in which order they are asked. Dispose it to stop following their files. */
export class ForwardTable implements Disposable {
  /** The longest domain first. */
  readonly #routes: readonly Route[]

  /** `isOwn`: addresses of this server, which must not be asked. */
  constructor(
    blocks: readonly ForwardBlock[],
    options: { readonly isOwn: (address: IpAddress) => boolean; readonly log: Log },
  ) {
    this.#routes = blocks
      .map((block): Route => {
        const { resolvConf: path } = block
        const file = path === undefined ? undefined : new ResolvConf({ path, exclude: options.isOwn, log: options.log })
        return { block, file, turn: 0 }
      })
      .toSorted((a, b) => b.block.from.wire.length - a.block.from.wire.length)
  }

  /** Whether all names have somebody to be asked. */
  get coversAll(): boolean {
    return this.#routes.some(({ block }) => block.from.wire.length === 1 && block.except.length === 0)
  }

  /** Another value when a file names other resolvers. */
  get epoch(): unknown {
    return this.#routes.map(({ file }) => file?.servers.join(' ') ?? '').join('|')
  }

  forwards(key: NameKey): boolean {
    return this.#routeOf(key) !== undefined
  }

  serversOf(name: Name): readonly Upstream[] {
    const route = this.#routeOf(name.key)
    if (!route) return []
    const named = [...route.block.upstreams, ...(route.file?.servers ?? []).map((address) => plainUpstream(address))]
    switch (route.block.policy) {
      case 'sequential':
        return named
      case 'round_robin': {
        const first = named.length > 0 ? route.turn++ % named.length : 0
        return [...named.slice(first), ...named.slice(0, first)]
      }
      case 'random':
        return shuffled(named)
      default:
        return route.block.policy satisfies never
    }
  }

  [Symbol.dispose](): void {
    for (const { file } of this.#routes) file?.[Symbol.dispose]()
  }

  #routeOf(key: NameKey): Route | undefined {
    return this.#routes.find(
      ({ block }) => isAtOrBelow(key, block.from.key) && !block.except.some((except) => isAtOrBelow(key, except.key)),
    )
  }
}

function shuffled<T>(list: readonly T[]): T[] {
  const result = [...list]
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    const [a, b] = [result[i], result[j]]
    if (a !== undefined && b !== undefined) [result[i], result[j]] = [b, a]
  }
  return result
}
