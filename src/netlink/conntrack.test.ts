import { describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { ConntrackClient, decodeConnection, deleteConnection, listConnections } from './conntrack.ts'
import { NetlinkSocket } from './netlink-socket.ts'
import { ScriptedKernel } from './scripted-kernel.ts'

/** An entry as the kernel (6.18) dumps it: UDP 192.0.2.1:5555 to 192.0.2.2:7200, translated to 172.29.0.2:80. */
const entryHex = [
  '02000000', // AF_INET, version, resource id
  '34000180', // CTA_TUPLE_ORIG
  '14000180 08000100 c0000201 08000200 c0000202',
  '1c000280 05000100 11000000 06000200 15b30000 06000300 1c200000',
  '34000280', // CTA_TUPLE_REPLY
  '14000180 08000100 ac1d0002 08000200 c0000201',
  '1c000280 05000100 11000000 06000200 00500000 06000300 15b30000',
  '08000300 000001aa', // CTA_STATUS
  '08000c00 12345678', // CTA_ID
]
  .join('')
  .replaceAll(' ', '')
const entry = {
  original: {
    source: parseIp('192.0.2.1'),
    destination: parseIp('192.0.2.2'),
    protocol: 17,
    sourcePort: 5555,
    destinationPort: 7200,
  },
  reply: {
    source: parseIp('172.29.0.2'),
    destination: parseIp('192.0.2.1'),
    protocol: 17,
    sourcePort: 80,
    destinationPort: 5555,
  },
  status: 0x1aa,
  id: 0x1234_5678,
}

describe('connection requests', () => {
  test('decodeConnection() reads both directions', () => {
    expect(decodeConnection(Buffer.from(entryHex, 'hex'), 4)).toEqual(entry)
    expect(decodeConnection(Buffer.from(entryHex, 'hex'), 6)).toBeUndefined()
  })

  test('listConnections() has the kernel compare what is given', () => {
    const { payload } = listConnections({ family: 4, original: { protocol: 17, destinationPort: 7200 } })
    expect(Buffer.from(payload).toString('hex')).toBe(
      [
        '02000000',
        '1c000180', // CTA_TUPLE_ORIG
        '04000180', // CTA_TUPLE_IP
        '14000280 05000100 11000000 06000300 1c200000',
        '14001980 08000100 28000000 08000200 00000000', // CTA_FILTER: PROTO_NUM and PROTO_DST_PORT
      ]
        .join('')
        .replaceAll(' ', ''),
    )
    expect(listConnections({ family: 6 }).payload).toHaveLength(4)
  })

  test('deleteConnection() names the entry by its first direction and its id', () => {
    const { payload, name } = deleteConnection(entry)
    expect(name).toBe('delete connection 192.0.2.1 to 192.0.2.2 port 7200')
    const hex = Buffer.from(payload).toString('hex')
    expect(hex.startsWith('020000003400018014000180')).toBe(true)
    expect(hex.endsWith('08000c0012345678')).toBe(true)
  })
})

describe('ConntrackClient', () => {
  test('list() leaves out what an old kernel did not filter', async () => {
    using client = new ConntrackClient(
      new NetlinkSocket(
        new ScriptedKernel(() => [
          { kind: 'part', type: 0x100, payload: Buffer.from(entryHex, 'hex') },
          { kind: 'done' },
        ]),
      ),
    )
    expect(await client.list({ family: 4, original: { destinationPort: 7200, protocol: 17 } })).toEqual([entry])
    expect(await client.list({ family: 4, reply: { source: parseIp('172.29.0.3') } })).toEqual([])
  })

  test('delete() passes over what has ended, and tells of everything else', async () => {
    const errors = [2, 0]
    const kernel = new ScriptedKernel(() => [{ kind: 'error', errno: errors.shift() ?? 1 }])
    using client = new ConntrackClient(new NetlinkSocket(kernel))
    await client.delete([entry, entry])
    await expect(client.delete([entry])).rejects.toThrow('delete connection 192.0.2.1 to 192.0.2.2 port 7200: EPERM')
  })
})
