import { spawnSync } from 'node:child_process'
import { silentLog } from '../src/base/log.ts'
import { diffServers } from '../src/ipvs/diff.ts'
import { virtualKey, type VirtualServerWithReals } from '../src/ipvs/objects.ts'
import { createAnonymousNetns, type Netns } from '../src/linux/netns.ts'
import { parseIp } from '../src/net/ip-address.ts'
import { parsePort } from '../src/net/port.ts'
import { compileServices, defaultProxySettings, type CompiledServices } from '../src/proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../src/proxy/example-objects.ts'
import { IpvsMode } from '../src/proxy-ipvs/ipvs-mode.ts'
import { openIpvsParts } from '../src/proxy-ipvs/ipvs-parts.ts'
import { clusterIp, endpoints, type ServiceSet } from './generate-services.ts'

/** One way to bring the same table to IPVS, once. Times in milliseconds. */
export interface IpvsRound {
  /** `ipvsadm --restore`: virtual and real servers. */
  readonly ipvsadmMs: number
  /** The same by this project's client, and the addresses on the dummy device, which ipvsadm does not do. */
  readonly clientMs: number
  readonly commands: number
  /** Datagrams that the commands went in: each is one system call to send, and one to read the answer. */
  readonly messages: number
  /** All of the mode: compiled, with the rules in nf_tables. */
  readonly syncMs: number
  /** Another sync, of one endpoint: time, and what it changed. */
  readonly changeMs: number
  readonly changed: number
}

/** Measures one round, each way in a network namespace of its own. */
export async function measureIpvs(set: ServiceSet): Promise<IpvsRound> {
  const table = wantedTable(set)
  return { ...ipvsadm(table), ...(await client(table)), ...(await mode(set)) }
}

function ipvsadm(table: readonly VirtualServerWithReals[]): Pick<IpvsRound, 'ipvsadmMs'> {
  using netns = newNetns()
  const input = table
    .flatMap(({ at, reals }) => {
      const place = `-t ${virtualKey(at).split(' ')[1]}`
      return [`-A ${place} -s rr`, ...reals.map(({ ip, port }) => `-a ${place} -r ${ip}:${port} -m -w 1`)]
    })
    .join('\n')
  const start = performance.now()
  const { status, stderr, error } = netns.enter(() =>
    spawnSync('ipvsadm', ['--restore'], { input: `${input}\n`, encoding: 'utf8' }),
  )
  const ipvsadmMs = performance.now() - start
  if (error ?? status !== 0) throw new Error(`ipvsadm --restore: ${stderr}`, { cause: error })
  return { ipvsadmMs }
}

async function client(
  table: readonly VirtualServerWithReals[],
): Promise<Pick<IpvsRound, 'clientMs' | 'commands' | 'messages'>> {
  using netns = newNetns()
  using parts = openIpvsParts({ netns })
  await parts.ipvs.info()
  const start = performance.now()
  const { commands, messages } = await parts.ipvs.run(diffServers([], table).commands)
  await parts.device.change({ add: table.flatMap(({ at }) => ('ip' in at ? [at.ip] : [])), remove: [] })
  return { clientMs: performance.now() - start, commands, messages }
}

async function mode(set: ServiceSet): Promise<Pick<IpvsRound, 'syncMs' | 'changeMs' | 'changed'>> {
  using netns = newNetns()
  using ipvs = new IpvsMode(() => openIpvsParts({ netns }), { log: silentLog })
  const first = compile(set)
  const start = performance.now()
  await ipvs.sync(first)
  const syncMs = performance.now() - start
  const second = compile(set, first)
  const later = performance.now()
  const { elements } = await ipvs.sync(second)
  return { syncMs, changeMs: performance.now() - later, changed: elements }
}

/** With `previous`, one endpoint of a Service in the middle is another one. */
function compile(set: ServiceSet, previous?: CompiledServices): CompiledServices {
  const snapshot = exampleSnapshot(
    Array.from({ length: set.services }, (_, index) => {
      const service = exampleService(`s${index}`, { clusterIPs: [clusterIp(index)] })
      const addresses = endpoints(set, index)
      if (previous && index === set.services >> 1) addresses[0] = '10.255.0.1'
      return [service, exampleSlice(service, addresses)] as const
    }),
  )
  return compileServices(snapshot, { nodeName: 'node', settings: previous?.settings ?? defaultProxySettings, previous })
}

function wantedTable(set: ServiceSet): VirtualServerWithReals[] {
  const [port, target] = [parsePort(80), parsePort(8080)]
  return Array.from({ length: set.services }, (_, index) => ({
    at: { ip: parseIp(clusterIp(index)), port, protocol: 'tcp' },
    scheduler: 'rr',
    reals: endpoints(set, index).map((ip) => ({ ip: parseIp(ip), port: target, weight: 1 })),
  }))
}

/** IPVS takes addresses for broadcast ones where no link is up. */
function newNetns(): Netns {
  const netns = createAnonymousNetns()
  const { status } = netns.enter(() => spawnSync('ip', ['link', 'set', 'lo', 'up']))
  if (status !== 0) throw new Error('ip link set lo up failed')
  return netns
}
