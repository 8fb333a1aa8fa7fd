import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createLab, type Lab } from '../../test/lab/lab.ts'
import type { Host } from '../../test/lab/host.ts'
import { silentLog } from '../base/log.ts'
import { createNetns, deleteNetns, listNetns } from '../linux/netns.ts'
import type { Pod } from '../model/pod.ts'
import { parseIp } from '../net/ip-address.ts'
import type { NftClient } from '../nftables/client.ts'
import { openNftables } from '../nftables/open-client.ts'
import type { BridgeNetworks } from './bridge-networks.ts'
import { openBridgeNetworks } from './open-bridge-networks.ts'
import { cleanupBridge } from './cleanup.ts'
import { openBridgeKernel, type BridgeKernel } from './kernel.ts'
import { parseJournal } from './leases.ts'
import { netnsPath } from './names.ts'
import { processesIn } from './pod-process.ts'
import { PodStore } from './pod-record.ts'
import type { PodInfo } from './pod-info.ts'
import { keepsLease, openPods, type Pods } from './pods.ts'

const prefix = `fltest-${process.pid}-`
const dns = { addresses: [parseIp('10.96.0.10')], zone: 'cluster.local' }
const server = [
  process.execPath,
  '-e',
  `require('node:http').createServer((q, r) => r.end('pod ' + process.argv[1] + ' saw ' + q.socket.remoteAddress)).listen(80, '::')`,
]

let stack: AsyncDisposableStack
let lab: Lab
let node: Host
let kernel: BridgeKernel
let nft: NftClient
let stateDir: string
let published: readonly Pod[]

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  lab = stack.use(createLab())
  node = await lab.host('node')
  kernel = stack.use(openBridgeKernel({ netns: node.netns }))
  nft = stack.use(openNftables({ netns: node.netns }))
  stateDir = mkdtempSync(join(tmpdir(), 'fairlead-pods-'))
  stack.defer(() => rmSync(stateDir, { recursive: true }))
  stack.defer(async () => void (await cleanupBridge({ kernel, nft, netnsPrefix: prefix })))
})
afterEach(() => stack.disposeAsync())

interface Opened {
  readonly networks: BridgeNetworks
  readonly pods: Pods
}

async function open(options: { kernel?: BridgeKernel; bootId?: string } = {}): Promise<Opened> {
  const { bootId = 'boot' } = options
  const store = PodStore.open(join(stateDir, 'pods'), silentLog)
  const networks = stack.use(
    await openBridgeNetworks({
      stateDir,
      networks: [{ name: 'default', bridge: 'fl0', subnets: [], masquerade: true }],
      machineId: 'test',
      kernel: options.kernel ?? kernel,
      nft,
      bootId,
      log: silentLog,
      keepLease: (lease) => keepsLease(store, lease),
    }),
  )
  const onPods = (pods: readonly Pod[]): void => void (published = pods)
  const podOptions = { networks, store, bootId, nodeName: 'node-1', dns, onPods, log: silentLog, graceMs: 300 }
  return { networks, pods: stack.use(await openPods({ ...podOptions, netnsPrefix: prefix })) }
}

/** To stop looking writes nothing, to the disk or to the kernel: whoever comes next finds what a kill leaves, too. */
async function crash({ networks, pods }: Opened): Promise<void> {
  pods[Symbol.dispose]()
  await networks[Symbol.asyncDispose]()
}

const spec = (name: string, command: readonly string[] = []) => ({
  namespace: 'default',
  name,
  labels: { app: 'web' },
  network: 'default',
  command,
})

async function exec(pods: Pods, name: string, command: readonly string[]): Promise<string> {
  const [program, ...args] = [...pods.exec('default', name), ...command]
  return (await promisify(execFile)(program!, args)).stdout
}

const ourNetns = (): string[] => listNetns().filter((name) => name.startsWith(prefix))
const netnsOf = (name: string): string => netnsPath(`${prefix}default.${name}`)
const find = (pods: Pods, name: string): PodInfo => pods.list().find((pod) => pod.name === name)!

/** Everything that a pod could leave behind. */
async function traces(): Promise<unknown> {
  return {
    links: (await kernel.rtnetlink.links.list()).map(({ name }) => name),
    netns: ourNetns(),
    folders: readdirSync(join(stateDir, 'pods')),
    leases: [...parseJournal(readFileSync(join(stateDir, 'leases'), 'utf8')).leases.keys()],
  }
}

describe('Pods', () => {
  test('run() makes pods that reach each other over HTTP, by IPv4 and IPv6', async () => {
    const { pods } = await open()
    const a = await pods.run(spec('a', [...server, 'a']))
    const b = await pods.run(spec('b', [...server, 'b']))
    for (const [index, ip] of b.ips.entries()) {
      const url = `http://${ip.includes(':') ? `[${ip}]` : ip}/`
      const seen = ip.includes(':') ? a.ips[index] : `::ffff:${a.ips[index]}`
      await vi.waitFor(async () => expect(await exec(pods, 'a', ['curl', '-sS', url])).toBe(`pod b saw ${seen}`), 5000)
    }
    expect(pods.list().map(({ name, state }) => `${name} ${state}`)).toEqual(['a running', 'b running'])
    expect(published).toMatchObject([
      { name: 'a', labels: { app: 'web' }, podIPs: a.ips, phase: 'Running', ready: true, nodeName: 'node-1' },
      { name: 'b' },
    ])
  })

  test('commands run with the resolv.conf of their pod, and the node keeps its own', async () => {
    const before = readFileSync('/etc/resolv.conf', 'utf8')
    const { pods } = await open()
    await pods.run(spec('a', ['cat', '/etc/resolv.conf']))
    const expected =
      'nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n'
    expect(await exec(pods, 'a', ['cat', '/etc/resolv.conf'])).toBe(expected)
    await vi.waitFor(() => expect(readFileSync(find(pods, 'a').log, 'utf8')).toBe(expected))
    expect(readFileSync('/etc/resolv.conf', 'utf8')).toBe(before)
  })

  test('a pod that goes is gone, although pods that came after it go on', async () => {
    const { pods } = await open()
    await pods.run(spec('a', ['sleep', '1000']))
    const { ino } = statSync(netnsOf('a'))
    await pods.run(spec('b', ['sleep', '1000']))
    const { pid } = find(pods, 'b')
    const mountsOfB = (): string => readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
    await vi.waitFor(() => expect(mountsOfB()).toContain('/etc/resolv.conf'))
    expect(mountsOfB()).toContain(`net:[${ino}]`)
    await pods.remove('default', 'a')
    expect(mountsOfB()).not.toContain(`net:[${ino}]`)
  })

  test.each([
    [['true'], 'exited 0', 'Succeeded'],
    [['sh', '-c', 'exit 3'], 'exited 3', 'Failed'],
    [['/no/such/program'], 'exited 127', 'Failed'],
  ])('the end of %j is noticed', async (command, state, phase) => {
    const { pods } = await open()
    await pods.run(spec('a', command))
    await vi.waitFor(() => expect(find(pods, 'a')).toMatchObject({ state, pid: undefined }), 5000)
    expect(published).toMatchObject([{ phase, ready: false }])
  })

  test('words of a command reach it as they are', async () => {
    const { pods } = await open()
    await pods.run(spec('a', ['printf', '%s\n', '$(id); "\'`', '--', '* x']))
    await vi.waitFor(() => expect(readFileSync(find(pods, 'a').log, 'utf8')).toBe('$(id); "\'`\n--\n* x\n'))
  })

  test('remove() ends the command politely and leaves no trace', async () => {
    const opened = await open()
    const { pods } = opened
    const before = await traces()
    const marker = join(stateDir, 'ended')
    await pods.run(spec('a', ['sh', '-c', `trap 'echo bye >"$0"; exit' TERM; while :; do sleep 0.05; done`, marker]))
    await pods.run(spec('b', ['sh', '-c', `trap '' TERM; while :; do sleep 0.05; done`]))
    await pods.run(spec('c'))
    await new Promise((resolve) => setTimeout(resolve, 200))
    await Promise.all(['a', 'b', 'c'].map((name) => pods.remove('default', name)))
    expect(existsSync(marker)).toBe(true)
    expect(await traces()).toEqual(before)
    expect(pods.list()).toEqual([])
    expect(published).toEqual([])
    expect(opened.networks.leases.size).toBe(0)
  })

  test('run() refuses what cannot be, and leaves no trace of a pod that failed half-way', async () => {
    const { pods } = await open()
    await pods.run(spec('a'))
    const before = await traces()
    await expect(pods.run(spec('a'))).rejects.toThrow('pod default/a exists already')
    await expect(pods.run(spec('A b'))).rejects.toThrow('name: "A b" is not a name')
    await expect(pods.run({ ...spec('b'), labels: { 'a b': 'c' } })).rejects.toThrow('label "a b": not a key')
    await expect(pods.run({ ...spec('b'), network: 'x' })).rejects.toThrow('there is no network "x"')
    await expect(pods.remove('default', 'b')).rejects.toThrow('there is no pod default/b')
    expect(() => pods.exec('default', 'b')).toThrow('there is no pod default/b')
    expect(await traces()).toEqual(before)
  })

  test('a daemon that comes after a crash adopts running pods, and learns how those ended that ended meanwhile', async () => {
    const crashed = await open()
    await crashed.pods.run(spec('a', ['sleep', '1000']))
    await crashed.pods.run(
      spec('b', ['sh', '-c', 'while [ ! -e "$0" ]; do sleep 0.02; done; exit 7', `${stateDir}/go`]),
    )
    await crashed.pods.run(spec('c', ['sleep', '1000']))
    await crashed.pods.run(spec('d'))
    const before = crashed.pods.list()
    await crash(crashed)
    writeFileSync(`${stateDir}/go`, '')
    await vi.waitFor(() => expect(processesIn(netnsOf('b'))).toEqual([]))
    const { pods } = await open()
    expect(find(pods, 'a')).toEqual(before[0])
    expect(find(pods, 'b').state).toBe('exited 7')
    expect(find(pods, 'd')).toEqual(before[3])
    // One that ends later is noticed as well, though it is no child of this daemon.
    process.kill(find(pods, 'c').pid!, 'SIGKILL')
    await vi.waitFor(() => expect(find(pods, 'c').state).toBe('exited'), 3000)
    await pods.removeAll()
    expect(ourNetns()).toEqual([])
  })

  test('after a reboot, nothing of the old pods is left', async () => {
    const crashed = await open()
    const before = await traces()
    await crashed.pods.run(spec('pa', ['sleep', '1000']))
    await crash(crashed)
    const { pods } = await open({ bootId: 'next' })
    expect(pods.list()).toEqual([])
    expect(await traces()).toEqual(before)
  })

  test('what was left of pods is removed: half a record, a namespace with processes in it', async () => {
    const before = (await crashAndTraces())!
    mkdirSync(join(stateDir, 'pods/default.half'))
    writeFileSync(join(stateDir, 'pods/default.half/pod.json'), '{"namespace":')
    const stray = createNetns(`${prefix}default.stray`)
    stack.defer(() => deleteNetns(`${prefix}default.stray`))
    stray.release()
    const sleeper = execFile('nsenter', [`--net=${netnsOf('stray')}`, 'sleep', '1000'])
    const ended = new Promise((resolve) => sleeper.once('exit', resolve))
    sleeper.once('error', () => {})
    await vi.waitFor(() => expect(processesIn(netnsOf('stray'))).toHaveLength(1))
    await open()
    await ended
    expect(await traces()).toEqual(before)
  })

  async function crashAndTraces(): Promise<unknown> {
    const opened = await open()
    await crash(opened)
    return await traces()
  }

  test('a daemon that dies at any step of making or removing a pod leaves nothing to the next one', async () => {
    const before = await crashAndTraces()
    let finished = false
    let steps = 0
    for (; !finished; steps++) {
      const budget = { left: Infinity }
      const dying = await open({ kernel: mortal(kernel, budget) })
      budget.left = steps
      finished = await dying.pods
        .run(spec('p'))
        .then(() => dying.pods.remove('default', 'p'))
        .then(() => true)
        .catch(() => false)
      budget.left = Infinity
      await crash(dying)
      const next = await open()
      // A pod that was whole when the daemon died is adopted whole.
      if (next.pods.list().length > 0) {
        expect(await next.networks.reconcile()).toEqual([])
        await next.pods.remove('default', 'p')
      }
      await crash(next)
      expect(await traces(), `after ${steps} steps`).toEqual(before)
    }
    expect(steps).toBeGreaterThan(5)
  })
})

/** A kernel that stops answering after a number of steps, as it looks to a process that is killed. */
function mortal(kernel: BridgeKernel, budget: { left: number }): BridgeKernel {
  const step = (): void => {
    if (budget.left <= 0) throw new Error('killed')
    budget.left--
  }
  const counting = <T extends object>(target: T, depth = 0): T =>
    new Proxy(target, {
      get(object, key) {
        const value: unknown = Reflect.get(object, key, object)
        if (key === Symbol.dispose) return (value as () => void).bind(object)
        if (typeof value === 'function') {
          return (...args: unknown[]) => {
            step()
            const result: unknown = (value as (...args: unknown[]) => unknown).apply(object, args)
            return key === 'openNamespace' ? counting(result as object) : result
          }
        }
        const isClient = depth < 2 && (key === 'rtnetlink' || ['links', 'addresses', 'routes'].includes(String(key)))
        return isClient ? counting(value as object, depth + 1) : value
      },
    })
  return counting(kernel)
}
