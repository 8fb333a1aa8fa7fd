import { cpus, loadavg } from 'node:os'
import { describe, expect, test } from 'vitest'
import { patience } from '../lab/patience.ts'
import { type DaemonProcess, Machine, machineObstacle, sleep } from './machine.ts'

/*
 * Bridge networks that iptables chains guard, by a whole daemon and its commands. Who reaches what stands in
 * reachability.test.ts.
 */
const obstacle = machineObstacle()
const server = new URL('../../examples/hello/server.js', import.meta.url).pathname
const main = new URL('../../src/cli/main.ts', import.meta.url).pathname
/** A second of this machine's own; others may want its CPUs too. */
const withinMs = patience(1000) * Math.max(1, (loadavg()[0] ?? 0) / cpus().length)
const tables = ['raw', 'mangle', 'nat'] as const

function config(firewall: string, more = ''): string {
  return `nodeName: node-1\nnetwork: {firewall: ${firewall}}\ndns: {enabled: false}\n${more}`
}

async function runWeb(machine: Machine): Promise<void> {
  const publish = [
    '--publish',
    '8081:8080',
    '--publish',
    '127.0.0.1:8082:8080',
    '--publish',
    '[2001:db8:2::2]:8083:8080',
  ]
  const words = ['pod', 'run', 'web', ...publish, '--', process.execPath, server, 'web', '8080']
  expect(await machine.fairlead(...words)).toMatchObject({ code: 0 })
  await expect.poll(() => reachable(machine), { timeout: patience(10_000) }).toEqual(all)
}

/** What curl says, from outside or from the node itself. */
async function get(machine: Machine, url: string, from: 'outside' | 'node' = 'outside'): Promise<string> {
  const prefix = from === 'outside' ? ['ip', 'netns', 'exec', 'outside'] : []
  const { stdout, stderr } = await machine.run(...prefix, 'curl', '-sS', '--max-time', '2', '-g', url)
  return stdout === '' ? stderr : (/^hello from \S+/.exec(stdout)?.[0] ?? stdout)
}

async function reachable(machine: Machine): Promise<string[]> {
  return await Promise.all([
    get(machine, 'http://192.0.2.2:8081/'),
    get(machine, 'http://[2001:db8:2::2]:8081/'),
    get(machine, 'http://[2001:db8:2::2]:8083/'),
    get(machine, 'http://127.0.0.1:8082/', 'node'),
    get(machine, 'http://[::1]:8081/', 'node'),
  ])
}

const all = Array.from({ length: 5 }, () => 'hello from web')

/** Rules and chains of both families, of our networks or of Services. */
async function rulesOf(machine: Machine, tools: string): Promise<string[]> {
  const texts = await Promise.all(['iptables', 'ip6tables'].map((base) => machine.run(`${base}-${tools}-save`)))
  return texts
    .flatMap(({ stdout }) => stdout.split('\n'))
    .filter((line) => /FAIRLEAD-|KUBE-(?!IPTABLES-HINT)/.test(line))
}

async function startWith(machine: Machine, tools: string, firewall: string, more?: string): Promise<DaemonProcess> {
  // As kubelet says which tools a machine uses.
  await machine.run(`iptables-${tools}`, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT')
  return await machine.startDaemon(config(firewall, more))
}

describe.skipIf(obstacle !== undefined)(
  `networks guarded by iptables${obstacle ? ` (skipped: ${obstacle})` : ''}`,
  { timeout: patience(120_000) },
  () => {
    test.each(['nft', 'legacy'])(
      'with the %s tools: what others destroy is repaired within a second',
      async (tools) => {
        await using machine = await Machine.create()
        const daemon = await startWith(machine, tools, 'iptables', 'services: {mode: iptables}\n')
        await runWeb(machine)
        await expect.poll(() => reachable(machine)).toEqual(all)
        const { stdout: nftTables } = await machine.run('nft', 'list', 'tables')
        expect(nftTables).not.toContain('inet fairlead-bridge')
        expect(nftTables).toContain('table bridge fairlead-bridge')
        const intact = await rulesOf(machine, tools)
        const services = (await machine.status())?.services?.repairs
        for (const damage of [
          ...tables.map((table) => `iptables-${tools} -t ${table} -F`),
          `iptables-${tools} -t nat -D PREROUTING -m addrtype --dst-type LOCAL ! -d 127.0.0.0/8 -j FAIRLEAD-PUBLISHED`,
          `ip6tables-${tools} -t nat -F FAIRLEAD-PUBLISHED`,
          `ip6tables-${tools} -t mangle -D FAIRLEAD-FORWARD 1`,
          ...(tools === 'nft' ? ['nft flush ruleset'] : []),
        ]) {
          const before = (await machine.status())?.network?.repairs ?? 0
          const already = daemon.log.length
          expect(await machine.run('sh', '-c', damage), damage).toMatchObject({ code: 0 })
          const start = performance.now()
          const said = /Repaired what another program changed: iptables rules of the networks/
          while (!said.test(daemon.log.slice(already))) {
            expect(performance.now() - start, damage).toBeLessThan(withinMs)
            await sleep(10)
          }
          expect((await machine.status())?.network?.repairs, damage).toBeGreaterThan(before)
          await expect
            .poll(async () => (await rulesOf(machine, tools)).toSorted(), { message: damage })
            .toEqual(intact.toSorted())
          expect(await reachable(machine), damage).toEqual(all)
        }
        const { stdout: explained } = await machine.fairlead('explain', '192.0.2.2:8081')
        expect(explained).toContain('nat prerouting, iptables FAIRLEAD-PUBLISHED')
        expect(explained).toContain('default/web')
        // Whoever of the daemon writes, nobody else of it takes that for a change by others.
        const after = await machine.status()
        const network = after?.network?.repairs
        expect(services).toBe(0)
        expect(await machine.fairlead('pod', 'publish', 'web', '8090:8080')).toMatchObject({ code: 0 })
        await sleep(patience(600))
        expect((await machine.status())?.network?.repairs).toBe(network)
        expect((await machine.status())?.services?.repairs).toBe(after?.services?.repairs)
        await daemon.end('SIGTERM')
        expect(await reachable(machine)).toEqual([...all.slice(0, 4), expect.stringContaining('curl') as string])
        expect(await machine.fairlead('cleanup')).toMatchObject({ code: 0 })
        expect(await rulesOf(machine, tools)).toEqual([])
      },
    )

    test.each(['nft', 'legacy'])(
      'with the %s tools: another network.firewall at the next start takes over, connections live on',
      async (tools) => {
        await using machine = await Machine.create()
        const first = await startWith(machine, tools, 'nftables')
        await runWeb(machine)
        const client = machine.spawn('ip', 'netns', 'exec', 'outside', process.execPath, '-e', keepAsking)
        let log = ''
        client.stdout?.on('data', (chunk: Buffer) => (log += chunk.toString()))
        await expect.poll(() => log, { timeout: patience(10_000) }).toContain('hello')
        await first.end('SIGKILL')
        const second = await machine.startDaemon(config('iptables'))
        expect((await machine.run('nft', 'list', 'tables')).stdout).not.toContain('inet fairlead-bridge')
        expect(await reachable(machine)).toEqual(all)
        await second.end('SIGKILL')
        const third = await machine.startDaemon(config('iptables'))
        expect(third.log).not.toMatch(/Repaired|removed/)
        expect(await reachable(machine)).toEqual(all)
        await third.end('SIGKILL')
        await machine.startDaemon(config('nftables'))
        expect(await rulesOf(machine, tools)).toEqual([])
        expect(await reachable(machine)).toEqual(all)
        const { length } = log
        await expect.poll(() => log.length, { timeout: patience(10_000) }).toBeGreaterThan(length + 100)
        expect(log).not.toContain('error')
        expect(new Set(log.match(/^\d+ /gm)).size, 'one client port: the connection is the same').toBe(1)
      },
    )

    test('no tools: the daemon says so, and does not start', async () => {
      await using machine = await Machine.create()
      const file = machine.write('fairlead.yaml', config('iptables', 'services: {enabled: false}\n'))
      const { code, stderr, stdout } = await machine.run(
        'env',
        'PATH=/nowhere',
        process.execPath,
        main,
        'run',
        '--config',
        file,
      )
      expect({ code, text: stderr + stdout }).toMatchObject({
        code: 1,
        text: expect.stringContaining('network.firewall: iptables cannot be used') as string,
      })
    })
  },
)

/** One connection that stays open, a request a moment. */
const keepAsking = `
  const { Agent, get } = require('node:http')
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const ask = () => get({ host: '192.0.2.2', port: 8081, agent }, (r) => {
    r.on('data', (d) => console.log(r.socket.localPort, String(d)))
    r.on('end', () => setTimeout(ask, 20))
  }).on('error', (e) => { console.log('error', e.message); process.exit(1) })
  ask()`
