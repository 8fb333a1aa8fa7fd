import { expect, test } from 'vitest'
import { createLab } from '../../test/lab/lab.ts'
import { parseIp } from '../net/ip-address.ts'
import { hasSctp, SctpSocket } from './sctp-socket.ts'

test.skipIf(!hasSctp())(
  'SctpSocket: who asks is answered, and nobody there is a refusal (where the kernel has SCTP)',
  async () => {
    await using lab = createLab()
    const host = await lab.host('sctp')
    await using _listener = await host.listenSctp(2905, { address: '127.0.0.1', reply: 'here' })
    expect(await host.connectSctp('127.0.0.1', 2905)).toMatchObject({ reply: 'here', seenSource: '127.0.0.1' })
    expect(await host.connectSctp('127.0.0.1', 2906)).toBe('refused')
  },
)

test.skipIf(hasSctp())('SctpSocket says that the kernel has no SCTP', () => {
  expect(() => SctpSocket.listen({ ip: parseIp('127.0.0.1'), port: 2905 })).toThrow('socket: ')
})
