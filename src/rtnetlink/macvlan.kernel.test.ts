import { expect, test } from 'vitest'
import { run } from '../linux/exec.ts'
import { createAnonymousNetns } from '../linux/netns.ts'
import { parseMac } from '../net/mac-address.ts'
import { createVeth, getLink } from './link-requests.ts'
import { createMacvlan } from './macvlan-requests.ts'
import { openRtnetlink } from './rtnetlink.ts'

const mac = parseMac('02:00:00:00:00:07')

test.each(['private', 'vepa', 'bridge', 'passthru'] as const)(
  'createMacvlan: a link of mode %s is born in the other namespace, up',
  async (mode) => {
    using host = createAnonymousNetns()
    using pod = createAnonymousNetns()
    using rtnetlink = openRtnetlink({ netns: host })
    await rtnetlink.run([createVeth({ name: 'uplink', mtu: 1400, peer: { name: 'lan' } })])
    const { index: parent, mac: parentMac } = await rtnetlink.links.get('uplink')
    await rtnetlink.run([createMacvlan({ name: 'eth0', parent, mode, mac, netns: pod, group: 7 })])
    using inside = openRtnetlink({ netns: pod })
    expect(await inside.links.get('eth0')).toMatchObject({
      kind: 'macvlan',
      mac: mode === 'passthru' ? parentMac : mac,
      up: true,
      mtu: 1400,
      group: 7,
    })
    expect((await run(['ip', '-d', 'link', 'show', 'eth0'], { netns: pod })).stdout).toContain(`macvlan mode ${mode}`)
  },
)

test('createMacvlan: a parent that is not there is an error that names the link', async () => {
  using host = createAnonymousNetns()
  using rtnetlink = openRtnetlink({ netns: host })
  const create = createMacvlan({ name: 'eth0', parent: 77, mode: 'bridge', mac })
  await expect(rtnetlink.run([create])).rejects.toThrow(/create macvlan eth0 on link 77: ENODEV/)
  await expect(rtnetlink.run([getLink('eth0')])).rejects.toThrow('ENODEV')
})
