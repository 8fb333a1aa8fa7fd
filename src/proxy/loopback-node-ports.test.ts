import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { probePort } from '../linux/port-probe.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { compileServices, defaultProxySettings, type CompiledServices } from './compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from './example-objects.ts'
import type { Frontend } from './frontends.ts'
import { LoopbackNodePorts } from './loopback-node-ports.ts'

const ip = parseIp('127.0.0.1')
const settings = { ...defaultProxySettings, loopbackNodePorts: [4, 6] as const }
let stack: DisposableStack
let warnings: string[]
let ports: LoopbackNodePorts
beforeEach(() => {
  stack = new DisposableStack()
  warnings = []
  const log = { ...silentLog, warn: (_: object, message: string) => void warnings.push(message) }
  ports = stack.use(new LoopbackNodePorts({ clock: new FakeClock(), log }))
})
afterEach(() => stack.dispose())

function freePort(protocol: 'tcp' | 'udp'): Port {
  const port = probePort({ ip, port: undefined, protocol })
  if (typeof port !== 'number') throw new Error(`no ${protocol} port: ${port}`)
  return port
}

/** A TCP server on 127.0.0.1 that says its name. */
async function tcpEndpoint(name: string): Promise<Port> {
  const server = createServer((socket) => socket.on('error', () => {}).end(name)).listen(0, ip)
  await once(server, 'listening')
  stack.defer(() => server.close())
  return (server.address() as AddressInfo).port as Port
}

async function udpEndpoint(name: string): Promise<Port> {
  const socket = createSocket('udp4').bind(0, ip)
  await once(socket, 'listening')
  socket.on('message', (_bytes, from) => socket.send(name, from.port, from.address))
  stack.defer(() => socket.close())
  return socket.address().port as Port
}

async function askTcp(port: Port): Promise<string> {
  const socket = connect({ host: ip, port })
  try {
    return String((await once(socket, 'data'))[0])
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'error'
  } finally {
    socket.destroy()
  }
}

async function askUdp(port: Port): Promise<string> {
  const socket = createSocket('udp4')
  socket.connect(port, ip)
  await once(socket, 'connect')
  const answer = once(socket, 'message') as Promise<[Buffer]>
  socket.send('?')
  try {
    return String((await answer)[0])
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'error'
  } finally {
    socket.close()
  }
}

/** One Service with a node port; endpoints at ports of 127.0.0.1, which a manifest could not have. */
function compiled(nodePort: Port, endpointPorts: readonly Port[], fields: Partial<Frontend> = {}): CompiledServices {
  const protocol = fields.protocol ?? 'tcp'
  const web = exampleService('web', { ports: [`80:${nodePort}/${protocol}`] })
  const slice = exampleSlice(web, ['10.0.0.1'], { ports: [`8080/${protocol}`] })
  const result = compileServices(exampleSnapshot([[web, slice]]), { nodeName: 'n', settings })
  const service = result.services.get('default/web')!
  const verdict =
    endpointPorts.length === 0
      ? ({ kind: 'reject' } as const)
      : ({ kind: 'balance', slots: endpointPorts.map((port) => ({ ip, port })) } as const)
  const frontends = service.frontends.map((frontend): Frontend => ({ ...frontend, verdict, ...fields }) as Frontend)
  return { ...result, services: result.services.with([['default/web', { ...service, frontends }]]) }
}

describe('LoopbackNodePorts', () => {
  it('carry TCP of 127.0.0.1 to each endpoint, follow them, and end with the Service', async () => {
    const [a, b] = [await tcpEndpoint('a'), await tcpEndpoint('b')]
    const port = freePort('tcp')
    const first = compiled(port, [a, b])
    await ports.update(first)
    expect([await askTcp(port), await askTcp(port)].toSorted((x, y) => x.localeCompare(y))).toEqual(['a', 'b'])
    await ports.update(compiled(port, [b]))
    expect([await askTcp(port), await askTcp(port)]).toEqual(['b', 'b'])
    await ports.update({ ...first, services: first.services.with([], ['default/web']) })
    expect(await askTcp(port)).toBe('ECONNREFUSED')
  })

  it('carry UDP, and give a client another endpoint when its own goes', async () => {
    const [a, b] = [await udpEndpoint('a'), await udpEndpoint('b')]
    const port = freePort('udp')
    await ports.update(compiled(port, [a], { protocol: 'udp' }))
    expect(await askUdp(port)).toBe('a')
    await ports.update(compiled(port, [b], { protocol: 'udp' }))
    expect(await askUdp(port)).toBe('b')
  })

  it('refuse where there is no endpoint, where sources are limited to others, and where settings do not ask', async () => {
    const a = await tcpEndpoint('a')
    const port = freePort('tcp')
    await ports.update(compiled(port, [a]))
    expect(await askTcp(port)).toBe('a')
    await ports.update(compiled(port, []))
    expect(await askTcp(port)).toBe('ECONNREFUSED')
    await ports.update(compiled(port, [a], { sourceRanges: [parseCidr('203.0.113.0/24')] }))
    expect(await askTcp(port)).toBe('ECONNREFUSED')
    await ports.update(compiled(port, [a], { sourceRanges: [parseCidr('127.0.0.0/8')] }))
    expect(await askTcp(port)).toBe('a')
    await ports.update({ ...compiled(port, [a]), settings: defaultProxySettings })
    expect(await askTcp(port)).toBe('ECONNREFUSED')
  })

  it('leave a port to the program that has it, say so once, and take it when it is free', async () => {
    const a = await tcpEndpoint('a')
    const port = freePort('tcp')
    const program = createServer((socket) => socket.end('program')).listen(port, ip)
    await once(program, 'listening')
    const services = compiled(port, [a])
    await ports.update(services)
    await ports.update(services)
    expect(warnings).toEqual([`cannot serve a node port at 127.0.0.1:${port}: EADDRINUSE`])
    expect(await askTcp(port)).toBe('program')
    const packet = { protocol: 'tcp', source: ip, destination: ip, port, origin: 'node', toNode: true } as const
    expect(ports.explain(packet)).toEqual({
      lines: [`the daemon does not listen at 127.0.0.1:${port}/tcp`],
      differences: [`127.0.0.1:${port}/tcp cannot be had: EADDRINUSE`],
    })
    program.close()
    await once(program, 'close')
    await ports.update(services)
    expect(await askTcp(port)).toBe('a')
    expect(ports.explain(packet)).toMatchObject({ lines: [expect.stringContaining('listens')], differences: [] })
  })
})
