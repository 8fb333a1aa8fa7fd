import { cpus, loadavg } from 'node:os'
import { describe, expect, test } from 'vitest'
import type { VerifyView } from '../../src/daemon/control-api.ts'
import { patience } from '../lab/patience.ts'
import { machineObstacle, sleep, type DaemonProcess, type Machine } from './machine.ts'
import { clusterIp, StormMachine } from './storm-machine.ts'

/*
 * What others do to our rules is put right within a second, in each mode: noticed by notifications of the kernel, or, with the
 * legacy iptables tools, by a look at the size of the tables. The log says it and a counter counts it.
 */
const obstacle = machineObstacle()

/** Something that somebody else does, in shell words. */
interface Damage {
  readonly what: string
  readonly by: string
}

const everything: Damage = { what: 'nft flush ruleset', by: 'nft flush ruleset' }

function nftablesDamage(table: string): readonly Damage[] {
  const nft = `nft -a list chain inet ${table}`
  return [
    everything,
    { what: 'a deleted element', by: `nft delete element inet ${table} frontends-4 '{ 172.30.0.1 . tcp . 80 }'` },
    {
      what: 'a deleted rule',
      by: `nft delete rule inet ${table} services-4 handle $(${nft} services-4 | sed -n 's/.*frontends-4.*# handle //p' | head -n 1)`,
    },
    { what: 'a rule of another', by: `nft insert rule inet ${table} prerouting tcp dport 80 drop` },
    { what: 'a deleted table', by: `nft delete table inet ${table}` },
  ]
}

function iptablesDamage(tool: string): readonly Damage[] {
  return [
    { what: `${tool} -t nat -F`, by: `${tool} -t nat -F` },
    { what: `${tool} -t filter -F`, by: `${tool} -t filter -F` },
    { what: 'a deleted rule', by: `${tool} -t nat -D KUBE-SERVICES 1` },
    { what: 'a deleted jump', by: `${tool} -t nat -D PREROUTING 1` },
    { what: 'all chains of nat replaced', by: `printf '*nat\\nCOMMIT\\n' | ${tool}-restore` },
  ]
}

const cases: readonly { name: string; mode: string; tools?: string; damage: readonly Damage[] }[] = [
  { name: 'nftables', mode: 'nftables', damage: nftablesDamage('fairlead-services') },
  {
    name: 'iptables, nft tools',
    mode: 'iptables',
    tools: 'nft',
    damage: [...iptablesDamage('iptables-nft'), everything],
  },
  { name: 'iptables, legacy tools', mode: 'iptables', tools: 'legacy', damage: iptablesDamage('iptables-legacy') },
  { name: 'userspace', mode: 'userspace', damage: nftablesDamage('fairlead-userspace') },
]

describe.skipIf(obstacle !== undefined)(`repair${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  test.each(cases)('in mode $name', { timeout: patience(120_000) }, async ({ name, mode, tools, damage }) => {
    await using storm = await StormMachine.create(100)
    const { machine } = storm
    if (tools !== undefined) await machine.run(`iptables-${tools}`, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT')
    const daemon = await storm.startDaemon(mode)
    for (const one of damage) {
      const before = (await machine.status())?.services?.repairs ?? 0
      const ms = await inflict(machine, { ...one, daemon, said: /repaired: \d+ elements, \d+ rules by / })
      console.log(`mode ${name}: ${one.what}: repaired after ${ms} ms`)
      expect.soft(ms, one.what).toBeLessThan(withinMs)
      await expect.poll(async () => (await machine.status())?.services?.repairs).toBeGreaterThan(before)
      await expect
        .poll(async () => (await machine.ask<VerifyView>('/verify')).differences, { message: one.what })
        .toEqual([])
      expect(await connects(machine), one.what).toBe('ok')
    }
  })

  test('of bridge networks, and of Services beside them', { timeout: patience(120_000) }, async () => {
    await using storm = await StormMachine.create(1)
    const { machine } = storm
    const daemon = await machine.startDaemon(
      `nodeName: node-1\nsources: {files: [${storm.manifests}]}\ndns: {enabled: false}\nservices: {serviceCIDRs: [172.30.0.0/16]}\n`,
    )
    const pod = ['pod', 'run', 'web', '--publish', '8081:8080', '--', process.execPath, '-e', echoServer]
    expect(await machine.fairlead(...pod)).toMatchObject({ code: 0 })
    await expect.poll(() => connects(machine, '192.0.2.2:8081')).toBe('ok')
    const table = 'inet fairlead-bridge'
    const handles = `nft -a list chain ${table} prerouting | sed -n 's/.*published-any-4.*# handle //p' | head -n 1`
    for (const one of [
      everything,
      { what: 'a deleted element', by: `nft delete element ${table} published-any-4 '{ tcp . 8081 }'` },
      { what: 'a deleted rule', by: `nft delete rule ${table} prerouting handle $(${handles})` },
      { what: 'a deleted table', by: `nft delete table ${table}` },
    ]) {
      const before = (await machine.status())?.network?.repairs ?? 0
      const ms = await inflict(machine, { ...one, daemon, said: /Repaired what another program changed: table inet/ })
      console.log(`bridge networks: ${one.what}: repaired after ${ms} ms`)
      expect.soft(ms, one.what).toBeLessThan(withinMs)
      await expect.poll(async () => (await machine.status())?.network?.repairs).toBeGreaterThan(before)
      await expect.poll(() => connects(machine, '192.0.2.2:8081'), { message: one.what }).toBe('ok')
      await expect.poll(() => connects(machine), { message: one.what }).toBe('ok')
    }
  })
})

/** A second of this machine's own; others may want its CPUs too. */
const withinMs = patience(1000) * Math.max(1, (loadavg()[0] ?? 0) / cpus().length)

const echoServer = `require('net').createServer({ allowHalfOpen: true }, (s) => s.on('error', () => {}).pipe(s)).listen(8080)`

/** Does it, and returns how long after it, in ms, the log said that it was repaired. */
async function inflict(
  machine: Machine,
  { by, daemon, said }: { by: string; daemon: DaemonProcess; said: RegExp },
): Promise<number> {
  // What an earlier repair may still say is not counted.
  await sleep(200)
  const already = daemon.log.length
  // The end of the last command is when it is done: the log may be quicker than the shell's end.
  const { code, stdout, stderr } = await machine.run('sh', '-ec', `${by} >&2; date +%s%3N`)
  if (code !== 0) throw new Error(`${by}: ${stderr}`)
  const done = Number(stdout)
  const deadline = Date.now() + patience(10_000)
  for (;;) {
    if (said.test(daemon.log.slice(already))) return Math.max(0, Date.now() - done)
    if (Date.now() > deadline) throw new Error(`not repaired: ${by}\n${daemon.log.slice(already)}`)
    await sleep(5)
  }
}

/** Connects from outside, and has a byte echoed. */
async function connects(machine: Machine, target: string = clusterIp): Promise<string> {
  const [ip, port] = target.split(':')
  const script = `
    const s = require('net').connect(${port}, '${ip}', () => s.write('.'))
    const end = (what) => { console.log(what); process.exit() }
    s.on('data', () => end('ok')).on('error', (error) => end(error.code))
    setTimeout(() => end('silence'), 3000)`
  const argv = ['ip', 'netns', 'exec', 'outside', process.execPath, '-e', script]
  return (await machine.run(...argv)).stdout.trim()
}
