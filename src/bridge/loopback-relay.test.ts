import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { probePort } from '../linux/port-probe.ts'
import { LoopbackRelays, planRelays, type Relay } from './loopback-relay.ts'
import { parsePublication } from './publication.ts'

const network = { name: 'default', internal: false, gatewayModes: { 4: 'nat', 6: 'nat' } } as const
const published = [undefined, '::', '::1', '127.0.0.1', '0.0.0.0'].map((hostIp, index) =>
  parsePublication({ hostIp, hostPort: 8000 + index, port: 80, protocol: 'tcp' }),
)
const ips = [parseIp('10.7.0.2'), parseIp('fd00:7::2')]

test('planRelays() is of ports at all addresses and at ::1, to IPv6 addresses of networks that translate', () => {
  const ports = (of: Parameters<typeof planRelays>[0][number], addresses = ips): number[] =>
    Array.from(planRelays([of], [{ network: 'default', ips: addresses, published }]).values(), ({ port }) => port)
  expect(ports(network)).toEqual([8000, 8001, 8002])
  expect(ports(network, ips.slice(0, 1))).toEqual([])
  expect(ports({ ...network, internal: true })).toEqual([])
  expect(ports({ ...network, gatewayModes: { 4: 'nat', 6: 'routed' } })).toEqual([])
})

const freePort = (protocol: 'tcp' | 'udp') => {
  const port = probePort({ ip: parseIp('::1'), port: undefined, protocol })
  if (typeof port !== 'number') throw new Error(`no ${protocol} port: ${port}`)
  return port
}

const relayTo = (protocol: Relay['protocol'], port: number): Relay => ({
  protocol,
  port: freePort(protocol),
  to: { ip: parseIp('::1'), port: parsePort(port) },
})

test('LoopbackRelays carry TCP both ways, half-closed too, and end with their port', async () => {
  const pod = createServer({ allowHalfOpen: true }, (socket) => socket.on('end', () => socket.end('bye')).resume())
  pod.listen(0, '::1')
  await once(pod, 'listening')
  const relay = relayTo('tcp', (pod.address() as AddressInfo).port)
  const relays = new LoopbackRelays(silentLog)
  relays.set(new Map([['a', relay]]))
  const client = connect({ host: '::1', port: relay.port })
  client.end('hello')
  expect(String((await once(client, 'data'))[0])).toBe('bye')
  relays.set(new Map())
  const refused = connect({ host: '::1', port: relay.port })
  await expect(once(refused, 'connect')).rejects.toThrow('ECONNREFUSED')
  pod.close()
})

test('LoopbackRelays carry UDP both ways, each client apart', async () => {
  const pod = createSocket('udp6')
  pod.on('message', (bytes, from) => pod.send(`${String(bytes)} yourself`, from.port, from.address))
  pod.bind(0, '::1')
  await once(pod, 'listening')
  const relay = relayTo('udp', pod.address().port)
  const relays = new LoopbackRelays(silentLog)
  relays.set(new Map([['a', relay]]))
  const clients = ['one', 'two'].map((name) => ({ name, socket: createSocket('udp6') }))
  for (const { name, socket } of clients) {
    const answer = once(socket, 'message')
    socket.send(name, relay.port, '::1')
    expect(String((await answer)[0])).toBe(`${name} yourself`)
  }
  for (const { socket } of clients) socket.close()
  relays[Symbol.dispose]()
  pod.close()
})

test('LoopbackRelays open 1,000 ports at most, say once that there are more, and go on when there is room', () => {
  const warnings: unknown[] = []
  using relays = new LoopbackRelays({ ...silentLog, warn: (fields) => warnings.push(fields) })
  const wanted = Array.from({ length: 1002 }, (_, index): [string, Relay] => [`${index}`, relayTo('udp', 9)])
  relays.set(new Map(wanted))
  relays.set(new Map(wanted))
  expect(warnings).toEqual([{ left: 2 }])
  relays.set(new Map(wanted.slice(2)))
  relays.set(new Map(wanted))
  expect(warnings).toEqual([{ left: 2 }, { left: 2 }])
})

test('LoopbackRelays log a port that they cannot have, and go on', async () => {
  const taken = createServer().listen(0, '::1')
  await once(taken, 'listening')
  const port = parsePort((taken.address() as AddressInfo).port)
  const warned = new Promise<string>((resolve) => {
    const relays = new LoopbackRelays({ ...silentLog, warn: (_, message) => resolve(message) })
    relays.set(new Map([['a', { protocol: 'tcp', port, to: { ip: parseIp('::1'), port } }]]))
  })
  expect(await warned).toBe(`Cannot relay tcp port ${port} of ::1`)
  taken.close()
})
