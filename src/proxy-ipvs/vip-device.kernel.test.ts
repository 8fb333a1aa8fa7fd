import { expect, test } from 'vitest'
import { createAnonymousNetns } from '../linux/netns.ts'
import { run } from '../linux/exec.ts'
import { parseIp } from '../net/ip-address.ts'
import { openRtnetlink } from '../rtnetlink/rtnetlink.ts'
import { KernelVipDevice } from './vip-device.ts'

const four = parseIp('10.96.0.5')
const six = parseIp('fd00:96::5')
const theirs = parseIp('10.96.0.6')

test('KernelVipDevice holds our addresses, on lo where the kernel makes no dummy devices, and leaves those of others', async () => {
  using netns = createAnonymousNetns()
  const ip = (...words: string[]) => run(['ip', ...words], { netns })
  await ip('link', 'set', 'lo', 'up')
  await ip('address', 'add', `${theirs}/32`, 'dev', 'lo')
  using device = new KernelVipDevice(openRtnetlink({ netns }))
  const ours = new Set([four, six])
  await device.change({ add: [four, six], remove: [] })
  await device.change({ add: [four], remove: [] })
  expect(await device.read(ours)).toEqual({
    own: ours,
    others: new Set(['127.0.0.1', '::1', theirs]),
  })
  const { stdout } = await ip('-oneline', 'address', 'show', 'dev', device.name)
  expect(stdout).toContain(four)
  await device.change({ add: [], remove: [six, six] })
  expect((await device.read(ours)).own).toEqual(new Set([four]))
  await device.remove(ours)
  expect(await device.read(ours)).toEqual({ own: new Set(), others: new Set(['127.0.0.1', '::1', theirs]) })
})
