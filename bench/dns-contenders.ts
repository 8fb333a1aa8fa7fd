import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { writeKubeconfig } from '../src/api/credentials.ts'
import { run, spawnIn } from '../src/linux/exec.ts'
import type { Netns } from '../src/linux/netns.ts'
import type { PlaneReady } from './api-plane-task.ts'
import { generateServices } from './generate-services.ts'
import { writeZone } from './dns-names.ts'
import { launcherFlags } from './launcher-flags.ts'
import type { Peer } from './options.ts'
import { scriptBeside } from './script-beside.ts'

/** A DNS server that runs. */
export interface DnsContender {
  readonly name: string
  readonly pid: number
  readonly port: number
}

export interface DnsWorld {
  readonly netns: Netns
  readonly folder: string
  readonly services: number
  readonly endpoints: number
  readonly peers: readonly Peer[]
  readonly signal: AbortSignal
}

/** The CPU that servers run on; the load comes from another one. */
const serverCpu = '0'
/** Of the API server that peers get the Services from. */
const apiPort = '6443'

interface Recipe {
  readonly name: string
  command(port: number, folder: string): readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

/** Starts all servers, one after the other, in a namespace that has nothing but a loopback; they end with the stack. */
export async function startDnsContenders(world: DnsWorld, stack: AsyncDisposableStack): Promise<DnsContender[]> {
  const { netns, folder, services, endpoints, peers } = world
  writeZone(join(folder, 'cluster.local.zone'), services)
  const ours = scriptBeside(import.meta.url, 'dns-server')
  const node = (...args: readonly (string | number)[]): string[] => [
    process.execPath,
    ...launcherFlags,
    ours,
    ...args.map(String),
  ]
  const recipes: Recipe[] = [
    { name: 'fairlead, 1 worker', command: (port) => node('fairlead', port, services, endpoints, 1) },
    { name: 'fairlead, 2 workers', command: (port) => node('fairlead', port, services, endpoints, 2) },
    { name: 'knot, 1 worker', command: (port, own) => knot({ port, own, folder, workers: 1 }) },
    { name: 'knot, 2 workers', command: (port, own) => knot({ port, own, folder, workers: 2 }) },
    { name: 'unbound', command: (port, own) => unbound({ port, own, folder }) },
    { name: 'dgram', command: (port) => node('dgram', port, services) },
  ]
  const api = peers.length > 0 ? await startApi(world, stack) : ''
  for (const peer of peers) recipes.push(peerRecipe(peer, api))
  const contenders: DnsContender[] = []
  for (const [i, recipe] of recipes.entries()) {
    world.signal.throwIfAborted()
    const port = 5300 + i
    const own = join(folder, recipe.name.replaceAll(/[^a-z0-9]+/g, '-'))
    mkdirSync(own, { recursive: true })
    const log = openSync(join(own, 'log'), 'a')
    const child = spawnIn(netns, ['taskset', '-c', serverCpu, ...recipe.command(port, own)], {
      cwd: own,
      stdio: ['ignore', log, log],
      env: { ...process.env, ...recipe.env, DNS_PORT: String(port), PEER_FOLDER: own, COREFILE: join(own, 'Corefile') },
    })
    closeSync(log)
    stack.defer(() => end(child))
    await untilAnswers(world, { child, port, log: join(own, 'log') })
    contenders.push({ name: recipe.name, pid: child.pid ?? 0, port })
  }
  return contenders
}

function knot({
  port,
  own,
  folder,
  workers,
}: {
  port: number
  own: string
  folder: string
  workers: number
}): string[] {
  const file = join(own, 'knot.conf')
  const text = `server:
    rundir: "${own}"
    user: root:root
    listen: 127.0.0.1@${port}
    udp-workers: ${workers}
    tcp-workers: 1
    background-workers: 1
database:
    storage: "${own}"
log:
  - target: stderr
    any: error
template:
  - id: default
    storage: "${folder}"
    file: "%s.zone"
zone:
  - domain: cluster.local
`
  writeFileSync(file, text)
  return ['knotd', '-c', file]
}

function unbound({ port, own, folder }: { port: number; own: string; folder: string }): string[] {
  const file = join(own, 'unbound.conf')
  const text = `server:
    directory: "${own}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    interface: 127.0.0.1
    port: ${port}
    num-threads: 1
    domain-insecure: "cluster.local"
remote-control:
    control-enable: no
auth-zone:
    name: "cluster.local"
    zonefile: "${folder}/cluster.local.zone"
    for-downstream: yes
    for-upstream: no
`
  writeFileSync(file, text)
  return ['unbound', '-d', '-c', file]
}

/** A peer finds a Corefile for CoreDNS in $COREFILE, which leads to an API server that has the Services. */
function peerRecipe({ name, command }: Peer, kubeconfig: string): Recipe {
  return {
    name,
    command(port, own) {
      const cluster = `  kubernetes cluster.local {\n    kubeconfig ${kubeconfig}\n  }\n`
      writeFileSync(join(own, 'Corefile'), `.:${port} {\n  bind 127.0.0.1\n${cluster}}\n`)
      return ['sh', '-c', `exec ${command}`]
    },
    env: { KUBECONFIG: kubeconfig },
  }
}

/** Starts the embedded API server with the Services; returns the path of a kubeconfig. */
async function startApi(
  { netns, folder, services, endpoints }: DnsWorld,
  stack: AsyncDisposableStack,
): Promise<string> {
  const [state, manifests] = [join(folder, 'api'), join(folder, 'manifests')]
  mkdirSync(state)
  generateServices(manifests, { services, endpointsEach: endpoints })
  const script = scriptBeside(import.meta.url, 'api-plane')
  const api = netns.enter(() =>
    fork(script, [state, manifests, apiPort, '127.0.0.1'], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }),
  )
  stack.defer(() => end(api))
  const ended = once(api, 'exit').then(([code]): never => {
    throw new Error(`the API server of the peers ended with exit code ${code}`)
  })
  const [{ authority, token }] = (await Promise.race([once(api, 'message'), ended])) as [PlaneReady]
  const kubeconfig = join(folder, 'kubeconfig')
  writeKubeconfig(kubeconfig, { url: `https://127.0.0.1:${apiPort}`, authority, token })
  return kubeconfig
}

async function untilAnswers(
  { netns, services, signal }: DnsWorld,
  { child, port, log }: { readonly child: ChildProcess; readonly port: number; readonly log: string },
): Promise<void> {
  const name = `svc-${services - 1}.bench.svc.cluster.local`
  for (let left = 200; left > 0; left--) {
    signal.throwIfAborted()
    if (child.exitCode !== null) break
    const asked = ['kdig', '@127.0.0.1', '-p', String(port), '+short', '+timeout=1', '+retry=0', name]
    if (await answers(asked, netns)) return
    await sleep(100)
  }
  throw new Error(`no answer on port ${port}: ${readFileSync(log, 'utf8').trim().split('\n').slice(-2).join('; ')}`)
}

async function answers(asked: readonly string[], netns: Netns): Promise<boolean> {
  return (await run(asked, { netns })).stdout.startsWith('10.')
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}
