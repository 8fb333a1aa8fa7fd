import { isIP } from 'node:net'
import { parseUpstream, type Upstream } from '../dns-forward/upstream.ts'
import type { CacheBlock, ForwardBlock } from './corefile.ts'
import { type DirectiveReader, parseZoneName } from './directive-reader.ts'
import type { PluginContext } from './read-kubernetes.ts'

const policies = ['random', 'round_robin', 'sequential'] as const
const maxUpstreams = 15

/** What each option means that changes nothing here. */
const withoutEffect: Readonly<Record<string, string>> = {
  prefer_udp: 'resolvers are asked over UDP first, always',
  expire: 'each question over UDP goes out from a port of its own (RFC 5452)',
  max_idle_conns: 'each question over UDP goes out from a port of its own (RFC 5452)',
  max_fails: 'the health of resolvers is known from the questions that they are asked',
  health_check: 'the health of resolvers is known from the questions that they are asked',
  max_connect_attempts: 'no resolver that answers with errors is asked more than twice',
  read_timeout: 'the next resolver is asked as soon as one is slower than usual',
  failover: 'the next resolver is asked after SERVFAIL and REFUSED, always',
  failfast_all_unhealthy_upstreams: 'resolvers that failed are asked last, never not at all',
}

/** `forward FROM TO... { ... }` */
export function readForward(reader: DirectiveReader, { path, note }: PluginContext): ForwardBlock {
  const [from = '', ...to] = reader.expect(2, 1000, 'forward FROM TO...').args
  let serverName: string | undefined
  let tcpOnly = false
  let block: ForwardBlock = {
    from: reader.parse(from, parseZoneName),
    upstreams: [],
    resolvConf: undefined,
    except: [],
    policy: 'random',
    maxConcurrent: undefined,
    tlsAuthorities: undefined,
  }
  for (const line of reader.lines()) {
    const { name } = line.directive
    switch (name) {
      case 'except':
        block = { ...block, except: line.zones(line.expect(1, 1000, 'except NAMES...').args) }
        break
      case 'policy': {
        const policy = policies.find((known) => known === line.args[0])
        block = { ...block, policy: policy ?? line.fail(`"${line.args[0]}" (expected ${policies.join(', ')})`) }
        break
      }
      case 'max_concurrent': {
        const max = line.expect(1, 1, 'max_concurrent MAX').integer(line.args[0], { min: 0, max: 1e6 })
        // 0 is CoreDNS's word for no limit.
        block = { ...block, maxConcurrent: max === 0 ? 1_000_000 : max }
        break
      }
      case 'tls': {
        const [authorities] = line.expect(0, 1, 'tls [CA] (client certificates are not supported)').args
        block = { ...block, tlsAuthorities: authorities === undefined ? undefined : path(authorities) }
        break
      }
      case 'tls_servername':
        serverName = line.expect(1, 1, 'tls_servername NAME').args[0]
        break
      case 'force_tcp':
        tcpOnly = true
        break
      default: {
        const known = [
          'except',
          'policy',
          'max_concurrent',
          'tls',
          'tls_servername',
          'force_tcp',
          ...Object.keys(withoutEffect),
        ]
        const why = withoutEffect[name] ?? line.unknown(known)
        note(line, why)
      }
    }
  }
  const files = to.filter((text) => isPath(text))
  if (files.length > 1 || (files.length === 1 && to.length > 1))
    reader.fail('a file stands beside other destinations (expected one file, or resolvers)')
  const upstreams = to
    .filter((text) => !isPath(text))
    .map((text) => {
      const upstream = reader.parse(text, parseDestination)
      const named = upstream.tls && serverName !== undefined ? { ...upstream, tls: { serverName } } : upstream
      return tcpOnly && !named.tls ? { ...named, key: `tcp://${named.key}`, tcpOnly } : named
    })
  if (upstreams.length > maxUpstreams)
    reader.fail(`${upstreams.length} destinations (expected at most ${maxUpstreams})`)
  if (tcpOnly && files.length > 0)
    note(reader, 'force_tcp counts for resolvers that the Corefile names, not for those of a file')
  return { ...block, upstreams, resolvConf: files[0] === undefined ? undefined : path(files[0]) }
}

function isPath(text: string): boolean {
  return isIP(text) === 0 && text.includes('/') && !/^\w+:\/\//.test(text)
}

/** CoreDNS's form of a resolver: `dns://9.9.9.9`, `tls://9.9.9.9%dns.quad9.net:853`. Throws ParseError. */
export function parseDestination(text: string): Upstream {
  const match = /^tls:\/\/(.+?)%([^:%]+)(?::(\d+))?$/.exec(text)
  if (!match) return parseUpstream(text.replace(/^dns:\/\//, ''))
  const [, address = '', name, port] = match
  const host = isIP(address) === 6 && port !== undefined ? `[${address}]` : address
  return parseUpstream(`tls://${host}${port === undefined ? '' : `:${port}`}#${name}`)
}

/** `cache [TTL] [ZONES...] { ... }` */
export function readCache(reader: DirectiveReader, { note }: PluginContext): CacheBlock {
  const [first = '', ...rest] = reader.args
  const hasTtl = /^\d+$/.test(first)
  const ttl = hasTtl ? reader.integer(first, { min: 1, max: 604_800 }) : undefined
  let block: CacheBlock = {
    zones: reader.zones(hasTtl ? rest : reader.args),
    success: { capacity: 9984, ttl: ttl ?? 3600 },
    denial: { capacity: 9984, ttl: ttl ?? 1800 },
    prefetch: false,
    serveStale: 0,
  }
  if (block.zones.length > 0) note(reader, 'its zones do not limit what is remembered: all that resolvers say is')
  for (const line of reader.lines()) {
    const { args } = line
    switch (line.directive.name) {
      case 'success':
      case 'denial': {
        const kind = line.directive.name
        const [capacity, maxTtl, minTtl] = line.expect(1, 3, `${kind} CAPACITY [TTL] [MINTTL]`).args
        block = {
          ...block,
          [kind]: {
            capacity: line.integer(capacity, { min: 0, max: 1e8 }),
            ttl: maxTtl === undefined ? block[kind].ttl : line.integer(maxTtl, { min: 0, max: 604_800 }),
          },
        }
        if (minTtl !== undefined && minTtl !== '0')
          note(line, 'nothing is remembered for longer than its TTL: no minimum')
        break
      }
      case 'prefetch':
        line.expect(1, 3, 'prefetch AMOUNT [DURATION] [PERCENTAGE%]')
        block = { ...block, prefetch: line.integer(args[0], { min: 0, max: 1e6 }) > 0 }
        if (args.length > 1) note(line, 'names that are asked for again are renewed in the last tenth of their TTL')
        break
      case 'serve_stale':
        block = { ...block, serveStale: args[0] === undefined ? 3600 : line.duration(args[0]) / 1000 }
        if (args.length > 1)
          note(line, 'old answers are given after 1.8 s without a new one, with a TTL of 30 s (RFC 8767)')
        break
      case 'disable': {
        const [kind, ...zones] = line.expect(1, 1000, 'disable success|denial [ZONES...]').args
        if (kind !== 'success' && kind !== 'denial') line.fail(`"${kind}" (expected success or denial)`)
        line.zones(zones)
        if (zones.length === 0) block = { ...block, [kind as 'success' | 'denial']: { capacity: 0, ttl: 0 } }
        // With zones: kubeadm names the cluster's, and names of the cluster are never remembered here.
        break
      }
      case 'servfail':
      case 'keepttl':
      case 'serve_stale_policy':
        note(line, 'failures are remembered for a second (RFC 9520), and TTLs count down')
        break
      default:
        line.unknown(['success', 'denial', 'prefetch', 'serve_stale', 'servfail', 'disable', 'keepttl'])
    }
  }
  return block
}
