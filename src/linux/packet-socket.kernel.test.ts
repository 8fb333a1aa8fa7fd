import { expect, test, vi } from 'vitest'
import { run } from './exec.ts'
import { createAnonymousNetns, type Netns } from './netns.ts'
import { etherTypes, PacketSocket } from './packet-socket.ts'
import { parseMac } from '../net/mac-address.ts'

/** Accepts what begins with byte 0x41: ldb [0]; jeq #0x41, 0, 1; ret #65535; ret #0. */
const beginsWithA = Buffer.from('3000000000000000150000014100000006000000ffff00000600000000000000', 'hex')

async function veth(left: Netns, right: Netns): Promise<void> {
  const ip = async (netns: Netns, ...args: string[]): Promise<void> => {
    expect(await run(['ip', ...args], { netns })).toMatchObject({ code: 0 })
  }
  await ip(left, 'link', 'add', 'left', 'address', '02:00:00:00:00:01', 'type', 'veth', 'peer', 'name', 'right', 'netns', right.path) // prettier-ignore
  await ip(left, 'link', 'set', 'left', 'up')
  await ip(right, 'link', 'set', 'right', 'up')
}

test('PacketSocket: packets pass a link without addresses; the filter keeps the others out', async () => {
  using left = createAnonymousNetns()
  using right = createAnonymousNetns()
  await veth(left, right)
  using sender = PacketSocket.open({ netns: left, link: 'left', protocol: etherTypes.arp })
  using receiver = PacketSocket.open({ netns: right, link: 'right', protocol: etherTypes.arp, filter: beginsWithA })
  expect(receiver.receive()).toBeUndefined()
  for (const text of ['B first', 'A second']) sender.send(Buffer.from(text), parseMac('ff:ff:ff:ff:ff:ff'))
  const packet = await vi.waitFor(() => receiver.receive() ?? expect.fail('nothing yet'))
  expect([packet.payload.toString(), packet.from]).toEqual(['A second', '02:00:00:00:00:01'])
  expect(receiver.receive()).toBeUndefined()
})

test('PacketSocket: a link that is not there, or down, or gone is an error with its name', async () => {
  using left = createAnonymousNetns()
  using right = createAnonymousNetns()
  expect(() => PacketSocket.open({ netns: left, link: 'left', protocol: etherTypes.arp })).toThrow('ENODEV')
  await veth(left, right)
  using sender = PacketSocket.open({ netns: left, link: 'left', protocol: etherTypes.arp })
  await run(['ip', 'link', 'set', 'left', 'down'], { netns: left })
  const send = (): void => sender.send(Buffer.from('A'), parseMac('ff:ff:ff:ff:ff:ff'))
  expect(send).toThrow('ENETDOWN')
  expect(sender.receive()).toBeUndefined()
  await run(['ip', 'link', 'del', 'left'], { netns: left })
  expect(send).toThrow(/ENXIO|ENODEV/)
})
