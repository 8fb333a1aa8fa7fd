import { expect, test, vi } from 'vitest'
import { createAnonymousNetns } from '../linux/netns.ts'
import { parseMac } from '../net/mac-address.ts'
import { createVeth } from './link-requests.ts'
import { NETLINK_ROUTE } from '../netlink/message.ts'
import { NetlinkSocketError } from '../netlink/netlink-error.ts'
import { openNetlink } from '../netlink/netlink-socket.ts'
import { Rtnetlink } from './rtnetlink.ts'

test('watchLinks() says that notifications were lost when more came at once than the buffer holds, and goes on', async () => {
  using netns = createAnonymousNetns()
  // The first socket is for requests, the second for notifications.
  const receiveBuffers = [4 << 20, 64 << 10]
  using rtnetlink = new Rtnetlink(() => {
    return openNetlink({ protocol: NETLINK_ROUTE, netns, receiveBuffer: receiveBuffers.shift()! })
  })
  const seen = new Set<string>()
  const lost: Error[] = []
  rtnetlink.watchLinks(
    ({ link }) => seen.add(link.name),
    (error) => lost.push(error),
  )
  const mac = parseMac('02:00:00:00:00:01')
  const { index } = await rtnetlink.links.createBridge({ name: 'br0', mac })
  const veths = Array.from({ length: 50 }, (_, i) => {
    return createVeth({ name: `host${i}`, master: index, up: false, peer: { name: `peer${i}` } })
  })
  await rtnetlink.run(veths)
  await vi.waitFor(() => expect(lost[0]).toBeInstanceOf(NetlinkSocketError))
  expect(await rtnetlink.links.list({ master: index })).toHaveLength(50)
  await rtnetlink.links.createBridge({ name: 'br1', mac })
  await vi.waitFor(() => expect(seen).toContain('br1'))
})
