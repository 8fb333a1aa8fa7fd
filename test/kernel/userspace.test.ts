import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Machine, machineObstacle, sleep, type DaemonProcess } from './machine.ts'

/*
 * What the flow cases cannot show of the userspace mode: many connections at a time, endpoints that refuse, and the way
 * into the mode and out of it. The endpoint is a server of the neighbour, the client a process of the node.
 */
const obstacle = machineObstacle()

const manifests = (ports: readonly number[]): string =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'List',
    items: [
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'web' },
        spec: { clusterIP: '10.96.0.80', ports: [{ port: 80 }] },
      },
      ...ports.map((port) => ({
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name: `web-${port}`, labels: { 'kubernetes.io/service-name': 'web' } },
        addressType: 'IPv4',
        ports: [{ port }],
        endpoints: [{ addresses: ['192.0.2.1'] }],
      })),
    ],
  })

/** Echoes, and ends when the client ends. */
const server = `require('net').createServer({ allowHalfOpen: true }, (s) => s.on('error', () => {}).pipe(s)).listen(8080, '192.0.2.1', 4096)`

/** Opens COUNT connections, has each echo a line while all are open, and prints how many did. */
const client = `
  const { connect } = require('net')
  const count = Number(process.argv[1])
  let ok = 0, failed = 0
  const sockets = []
  const done = () => {
    if (ok + failed < count) return
    console.log(JSON.stringify({ ok, failed }))
    process.exit()
  }
  for (let i = 0; i < count; i++) {
    const s = connect(80, '10.96.0.80')
    sockets.push(s)
    s.write('hello ' + i)
    s.once('data', (bytes) => { String(bytes) === 'hello ' + i ? ok++ : failed++; done() })
    s.once('error', () => { failed++; done() })
  }`

/** Holds one connection, and prints the echo of a dot that it sends at each SIGUSR2. */
const holder = `
  const s = require('net').connect(80, '10.96.0.80', () => process.stdout.write('connected'))
  s.on('data', (bytes) => process.stdout.write(bytes))
  s.on('error', (error) => process.stdout.write(error.code))
  process.on('SIGUSR2', () => s.write('.'))`

/** Connects again and again, twenty at a time, until it is told to end; prints how many could, and what came of the others. */
const storm = `
  const { connect } = require('net')
  let ok = 0, end = false, running = 0
  const errors = {}
  const done = () => {
    running--
    if (!end) return void start()
    if (running === 0) { console.log(JSON.stringify({ ok, errors })); process.exit() }
  }
  const start = () => {
    running++
    const s = connect(80, '10.96.0.80')
    s.setTimeout(10000, () => s.destroy(new Error('silent')))
    s.on('error', (error) => { errors[error.code ?? error.message] = (errors[error.code ?? error.message] ?? 0) + 1 })
    s.on('close', done)
    s.once('data', () => { ok++; s.end() })
    s.write('.')
  }
  process.on('SIGTERM', () => { end = true })
  for (let i = 0; i < 20; i++) start()`

describe.skipIf(obstacle !== undefined)(`userspace mode${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  let machine: Machine
  let daemon: DaemonProcess
  const file = (): string => join(machine.folder, 'manifests', 'web.json')

  beforeAll(async () => {
    machine = await Machine.create()
    mkdirSync(join(machine.folder, 'manifests'))
    writeFileSync(file(), manifests([8080]))
    machine.spawn('ip', 'netns', 'exec', 'outside', process.execPath, '-e', server)
    const sources = `sources: {files: [${join(machine.folder, 'manifests')}]}`
    daemon = await machine.startDaemon(
      `nodeName: node-1\n${sources}\nnetwork: {enabled: false}\ndns: {enabled: false}\nservices: {mode: userspace}\n`,
    )
  })
  afterAll(() => machine[Symbol.asyncDispose]())

  const connectMany = async (count: number) => {
    const { stdout } = await machine.run(process.execPath, '-e', client, String(count))
    return JSON.parse(stdout) as { ok: number; failed: number }
  }
  const rss = (): number =>
    Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${daemon.child.pid}/status`, 'utf8'))?.[1])

  test('carries 2,000 connections at a time, in modest memory', async () => {
    await expect.poll(async () => (await connectMany(1)).ok, { timeout: 10_000 }).toBe(1)
    const before = rss()
    expect(await connectMany(2000)).toEqual({ ok: 2000, failed: 0 })
    const grown = (rss() - before) / 1024
    expect(grown).toBeLessThan(150)
  })

  test('no connection fails while one of two endpoints refuses', async () => {
    writeFileSync(file(), manifests([8080, 9]))
    await expect.poll(async () => (await machine.status())?.services?.endpoints, { timeout: 5000 }).toBe(2)
    expect(await connectMany(100)).toEqual({ ok: 100, failed: 0 })
    writeFileSync(file(), manifests([8080]))
  })

  test('no new connection fails while the mode is switched', async () => {
    const child = machine.spawn(process.execPath, '-e', storm)
    let said = ''
    child.stdout?.on('data', (bytes: Buffer) => (said += String(bytes)))
    for (const mode of ['nftables', 'userspace']) {
      await sleep(300)
      expect(await machine.fairlead('mode', 'set', mode)).toMatchObject({ code: 0 })
    }
    await sleep(300)
    child.kill()
    await expect.poll(() => said, { timeout: 15_000 }).not.toBe('')
    const { ok, errors } = JSON.parse(said) as { ok: number; errors: object }
    expect(errors).toEqual({})
    expect(ok).toBeGreaterThan(100)
  })

  test('a switch of the mode ends no connection, and leaves nothing behind', async () => {
    const held = machine.spawn(process.execPath, '-e', holder)
    let heard = ''
    held.stdout?.on('data', (bytes: Buffer) => (heard += String(bytes)))
    await expect.poll(() => heard, { timeout: 5000 }).toBe('connected')
    const echoes = async (): Promise<void> => {
      heard = ''
      held.kill('SIGUSR2')
      await expect.poll(() => heard, { timeout: 5000 }).toBe('.')
    }
    await echoes()
    expect(await machine.fairlead('mode', 'set', 'nftables')).toMatchObject({ code: 0, stdout: 'nftables\n' })
    await echoes()
    expect(await connectMany(10)).toEqual({ ok: 10, failed: 0 })
    const tables = async (): Promise<string> => (await machine.run('nft', 'list', 'tables')).stdout
    expect(await tables()).toBe('table inet fairlead-anchor\ntable inet fairlead-services\n')
    held.kill()
    const addresses = async (): Promise<string> => (await machine.run('ip', 'address', 'show', 'lo')).stdout
    await expect.poll(addresses, { timeout: 15_000 }).not.toContain('169.254.62.46')

    expect(await machine.fairlead('mode', 'set', 'userspace')).toMatchObject({ code: 0, stdout: 'userspace\n' })
    expect(await connectMany(10)).toEqual({ ok: 10, failed: 0 })
    expect(await tables()).toBe('table inet fairlead-anchor\ntable inet fairlead-userspace\n')
    await daemon.end('SIGTERM')
    expect((await machine.fairlead('cleanup')).stdout).toContain('169.254.62.46')
    expect(await tables()).toBe('')
    expect(await addresses()).not.toContain('169.254.62.46')
  })
})
