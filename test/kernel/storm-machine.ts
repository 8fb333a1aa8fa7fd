import { once } from 'node:events'
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { patience } from '../lab/patience.ts'
import { Machine, sleep } from './machine.ts'
import type { StormLoss, StormReport } from './storm.ts'

const program = fileURLToPath(new URL('storm.ts', import.meta.url))

/** Where the first Service is: its cluster IP, and its node port at the machine's address. */
export const clusterIp = '172.30.0.1:80'
export const nodePort = '192.0.2.2:30001'

/** What answers at it, as long as the machine lives. */
export const podAddresses = Array.from({ length: 6 }, (_, n) => `10.244.1.${n + 2}`)

/** Both storms' counts, and what went wrong in either. */
export interface StormResult extends StormReport {
  /** Wall times of the begin and the end of the work that the storm was about, ms. */
  readonly during: readonly [number, number]
}

/** An endpoint of {@link StormMachine.setEndpoints}. */
export interface StormEndpoint {
  readonly ip: string
  readonly conditions?: { readonly ready: boolean; readonly serving?: boolean; readonly terminating?: boolean }
}

/**
 * A machine with as many Services as asked for, of which the first leads to pods that echo, a pod that asks, and a neighbour
 * that reaches cluster IPs too.
 */
export class StormMachine implements AsyncDisposable {
  readonly machine: Machine
  readonly manifests: string

  private constructor(machine: Machine) {
    this.machine = machine
    this.manifests = join(machine.folder, 'objects')
  }

  static async create(services: number): Promise<StormMachine> {
    const storm = new StormMachine(await Machine.create())
    try {
      await storm.#setUp(services)
      return storm
    } catch (error) {
      await storm[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Starts the daemon in a mode, and waits until it is ready. */
  async startDaemon(mode: string): ReturnType<Machine['startDaemon']> {
    const config = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ${mode}
clusterCIDR: 10.244.0.0/16
`
    const flags = ['--manifests', this.manifests, '--node-name', 'node-1', '--log-format', 'text']
    return await this.machine.startDaemon(config, ...flags)
  }

  /** Has the first Service these endpoints. */
  setEndpoints(endpoints: readonly StormEndpoint[]): void {
    this.write('first.yaml', slice(1, endpoints))
  }

  /** Replaces a manifest at once. */
  write(name: string, text: string): void {
    // A name that is no manifest's: nobody sees it half written.
    const fresh = join(this.manifests, `${name}.new`)
    writeFileSync(fresh, text)
    renameSync(fresh, join(this.manifests, name))
  }

  /** The work, while a neighbour and a pod keep connecting and keep 25 connections each. */
  async during(work: () => Promise<void>): Promise<StormResult> {
    const storms = await Promise.all([
      this.#start('outside', [clusterIp, nodePort]),
      this.#start('asking', [clusterIp, nodePort]),
    ])
    await sleep(300)
    const begin = Date.now()
    await work()
    const end = Date.now()
    await sleep(500)
    const reports = await Promise.all(storms.map((stop) => stop()))
    const sum = (pick: (report: StormReport) => number): number => reports.reduce((all, one) => all + pick(one), 0)
    return {
      connects: sum(({ connects }) => connects),
      exchanges: sum(({ exchanges }) => exchanges),
      failed: reports.flatMap(({ failed }) => failed),
      broken: reports.flatMap(({ broken }) => broken),
      slowestMs: Math.max(...reports.map(({ slowestMs }) => slowestMs)),
      during: [begin, end],
    }
  }

  /** Which modes have something in the kernel, and whether connections are held. */
  async traces(): Promise<readonly string[]> {
    const { stdout: tables } = await this.machine.run('nft', 'list', 'tables')
    const listing = 'iptables -t nat -S PREROUTING; iptables-legacy -t nat -S PREROUTING 2>/dev/null || true'
    const { stdout: rules } = await this.machine.run('sh', '-c', listing)
    return [
      ...(tables.includes('fairlead-services') ? ['nftables'] : []),
      ...(rules.includes('KUBE-SERVICES') ? ['iptables'] : []),
      ...(tables.includes('fairlead-userspace') ? ['userspace'] : []),
      ...(tables.includes('fairlead-anchor') ? ['anchor'] : []),
    ]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine[Symbol.asyncDispose]()
  }

  async #setUp(services: number): Promise<void> {
    const { machine } = this
    const script = `sysctl -qw net.ipv4.ip_forward=1
      for pod in 1:answering 2:asking; do
        n=\${pod%%:*}; name=\${pod##*:}
        ip netns add $name && ip link add p$n type veth peer name eth0 netns $name
        ip addr add 10.244.$n.1/24 dev p$n && ip link set p$n up
        ip -n $name link set lo up && ip -n $name link set eth0 up
      done
      for ip in ${podAddresses.join(' ')}; do ip -n answering addr add $ip/24 dev eth0; done
      ip -n asking addr add 10.244.2.2/24 dev eth0
      ip -n answering route add default via 10.244.1.1 && ip -n asking route add default via 10.244.2.1
      ip -n outside route add 172.30.0.0/16 via 192.0.2.2`
    const { code, stderr } = await machine.run('sh', '-ec', script)
    if (code !== 0) throw new Error(`cannot set the machine up: ${stderr}`)
    const echo = `require('net').createServer({ allowHalfOpen: true }, (s) => s.on('error', () => {}).pipe(s)).listen(8080, '0.0.0.0', 4096, () => console.log('listening'))`
    const server = machine.spawn('ip', 'netns', 'exec', 'answering', process.execPath, '-e', echo)
    if (server.stdout) await once(server.stdout, 'data')
    mkdirSync(this.manifests)
    const status = 'status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}'
    this.write('node.yaml', `apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\n${status}\n`)
    this.write('services.yaml', Array.from({ length: services }, (_, i) => service(i + 1)).join('---\n'))
    const others = Array.from({ length: services - 1 }, (_, i) => i + 2)
    this.write('slices.yaml', others.map((n) => slice(n, elsewhere(n))).join('---\n'))
    this.setEndpoints(podAddresses.map((ip) => ({ ip })))
  }

  /** Starts a storm; what is returned ends it. */
  async #start(netns: string, targets: readonly string[]): Promise<() => Promise<StormReport>> {
    const child = this.machine.spawn('ip', 'netns', 'exec', netns, process.execPath, program, '4', '25', ...targets)
    let output = ''
    let errors = ''
    child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()))
    const deadline = Date.now() + patience(20_000)
    while (!output.includes('started')) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error(`the storm did not start: ${errors}`)
      await sleep(20)
    }
    return async () => {
      const ended = once(child, 'close')
      child.kill('SIGTERM')
      await ended
      return JSON.parse(output.split('\n')[1] ?? '') as StormReport
    }
  }
}

/** Two endpoints that nobody asks. */
export function elsewhere(n: number): readonly StormEndpoint[] {
  return [8, 9].map((part) => ({ ip: `10.244.${part * 10 + (n >> 8)}.${n & 255}` }))
}

export function service(n: number): string {
  return `apiVersion: v1
kind: Service
metadata: {name: s${n}}
spec: {type: ${n === 1 ? 'NodePort' : 'ClusterIP'}, clusterIP: 172.30.${n >> 8}.${n & 255}, ports: [{port: 80${n === 1 ? ', nodePort: 30001' : ''}}]}
`
}

export function slice(n: number, endpoints: readonly StormEndpoint[]): string {
  const list = endpoints.map(({ ip, conditions = { ready: true } }) => {
    return JSON.stringify({ addresses: [ip], conditions, nodeName: 'node-1' })
  })
  return `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s${n}-1, labels: {kubernetes.io/service-name: s${n}}}
addressType: IPv4
ports: [{name: "", port: 8080}]
endpoints: [${list.join(', ')}]
`
}

/** One line for people. */
export function describeStorm(result: StormResult): string {
  const { connects, exchanges, failed, broken, slowestMs, during } = result
  const first = ([loss]: readonly StormLoss[]): string =>
    loss ? ` (one after ${loss.until - during[0]} ms: ${loss.why})` : ''
  return (
    `${connects} new connections, ${failed.length} failed${first(failed)}, the slowest took ${slowestMs} ms; ` +
    `50 long ones, ${exchanges} answers, ${broken.length} broken${first(broken)}; in ${during[1] - during[0]} ms`
  )
}
