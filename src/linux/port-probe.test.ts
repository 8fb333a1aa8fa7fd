import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { probePort } from './port-probe.ts'

const loopback = parseIp('127.0.0.1')
const any = parseIp('0.0.0.0')

test('probePort() finds a TCP listener, at its address and at all, and its port free once it is closed', async () => {
  const server = createServer((socket) => socket.end()).listen(0, loopback)
  await once(server, 'listening')
  const port = parsePort((server.address() as AddressInfo).port)
  expect(probePort({ ip: loopback, port, protocol: 'tcp' })).toBe('taken')
  expect(probePort({ ip: any, port, protocol: 'tcp' })).toBe('taken')
  expect(probePort({ ip: loopback, port, protocol: 'udp' })).toBe(port)
  // The server's end closes first and stays in TIME_WAIT.
  await once(connect(port, loopback).resume(), 'close')
  server.close()
  await once(server, 'close')
  expect(probePort({ ip: any, port, protocol: 'tcp' })).toBe(port)
})

test('probePort() finds a UDP socket', async () => {
  const socket = createSocket('udp4').bind(0, loopback)
  await once(socket, 'listening')
  const { port } = socket.address()
  expect(probePort({ ip: any, port: parsePort(port), protocol: 'udp' })).toBe('taken')
  socket.close()
})

test('probePort() chooses a free port, and holds nothing', () => {
  const port = probePort({ ip: loopback, port: undefined, protocol: 'tcp' })
  expect(port).toBeTypeOf('number')
  expect(probePort({ ip: loopback, port: parsePort(port), protocol: 'tcp' })).toBe(port)
})

test('probePort() says when the host has no such address', () => {
  expect(probePort({ ip: parseIp('192.0.2.254'), port: undefined, protocol: 'tcp' })).toBe('no-address')
})
