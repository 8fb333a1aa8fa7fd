/** A process of the suite `dns`: `fairlead PORT SERVICES ENDPOINTS WORKERS [joins]`, or `dgram PORT SERVICES`, the shortest server that Node can have. */
import { createSocket } from 'node:dgram'
import { silentLog } from '../src/base/log.ts'
import { settleMemory } from '../src/daemon/settle-memory.ts'
import { createDnsServer } from '../src/dns/server.ts'
import { snapshotOf } from '../src/dns/testing.ts'
import type { Snapshot } from '../src/model/snapshot.ts'
import { parseIp } from '../src/net/ip-address.ts'
import { clusterIpOf } from './dns-names.ts'

const [kind = '', ...numbers] = process.argv.slice(2)
const [port = 0, services = 0, endpoints = 0, workers = 1] = numbers.map(Number)
const joins = numbers[4] === 'joins'
if (kind === 'fairlead') await serveFairlead()
else serveDgram()

/** In a function of its own: what only made the snapshot must be gone when memory is settled. */
function manyServices(): Snapshot {
  const specs = Array.from({ length: services }, (_, i) => {
    const addresses = Array.from({ length: endpoints }, (_, at) => `10.${10 + at}.${(i >> 8) & 255}.${i & 255}`)
    return [`bench/svc-${i}`, { ips: [clusterIpOf(i)], ports: ['http/TCP/80'], endpoints: addresses }] as const
  })
  return snapshotOf(Object.fromEntries(specs))
}

async function serveFairlead(): Promise<void> {
  const server = createDnsServer({
    addresses: [parseIp('127.0.0.1')],
    port,
    workers,
    joins,
    upstreams: [],
    resolvConf: '/dev/null',
    log: silentLog,
  })
  server.update(manyServices(), true)
  await server.listen()
  // As the daemon does after its first snapshot.
  settleMemory(silentLog)
  process.once('SIGTERM', () => {
    void server[Symbol.asyncDispose]().then(() => process.exit())
  })
  process.send?.('ready')
}

/** A fixed answer for every question: what Node's own sockets cost, and nothing else. */
function serveDgram(): void {
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 7, 7])
  const socket = createSocket({
    type: 'udp4',
    // Without it, each answer waits for a look-up of an address that is one already.
    lookup: (host, _options, callback) => callback(null, host, 4),
  })
  socket.on('message', (message, { address, port }) => {
    message[2] = 0x85
    message[3] = 0x80
    message[7] = 1
    socket.send([message, record], port, address)
  })
  socket.bind(port, '127.0.0.1')
}
