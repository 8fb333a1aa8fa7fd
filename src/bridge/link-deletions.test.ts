import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { parseMac } from '../net/mac-address.ts'
import { FakeRtnetlink } from '../rtnetlink/fake-rtnetlink.ts'
import { NLM_F_ACK } from '../netlink/message.ts'
import { NetlinkSocket } from '../netlink/netlink-socket.ts'
import { Rtnetlink } from '../rtnetlink/rtnetlink.ts'
import { ScriptedKernel } from '../netlink/scripted-kernel.ts'
import { LinkDeletions } from './link-deletions.ts'

const mac = parseMac('02:00:00:00:00:01')
const RTM_DELLINK = 17

test('delete: links that are asked for at the same time go together, and one that is gone is no error', async () => {
  const kernel = new FakeRtnetlink()
  const { links } = kernel.open(kernel.createNetns('host'))
  const deletions = new LinkDeletions(kernel.open({ fd: 1000, name: 'host' }))
  const made = await Promise.all(['a', 'b', 'c'].map((name) => links.createBridge({ name, mac })))
  await links.delete('b')
  await Promise.all(made.map(({ index }) => deletions.delete(index)))
  expect((await links.list()).map(({ name }) => name)).toEqual(['lo'])
  await deletions.delete(made[0]!.index)
})

test('delete: the notification is enough, the acknowledgement may take its time; more than two are not begun meanwhile', async () => {
  const slow = new ScriptedKernel((request) => {
    if (request.type === RTM_DELLINK) return undefined
    return request.flags & NLM_F_ACK ? [{ kind: 'error', errno: 19 }] : []
  })
  const deletions = new LinkDeletions(new Rtnetlink(() => new NetlinkSocket(slow)))
  const begun = (): number[] =>
    slow.requests.filter(({ type }) => type === RTM_DELLINK).map(({ payload }) => payload.readInt32LE(4))
  const turn = async (): Promise<void> => {
    for (let i = 0; i < 5; i++) await setImmediate()
  }
  for (const index of [5, 6]) {
    const gone = deletions.delete(index)
    await turn()
    expect(begun().at(-1)).toBe(index)
    deletions.noteGone(4)
    deletions.noteGone(index)
    await gone
  }
  const third = deletions.delete(7)
  await turn()
  expect(begun()).toEqual([5, 6])
  slow.answer(
    slow.requests.find(({ type }) => type === RTM_DELLINK)!,
    [{ kind: 'ack' }],
  )
  await turn()
  expect(begun()).toEqual([5, 6, 7])
  deletions.noteGone(7)
  await third
})

test('delete: a refusal is told to who asked, and to nobody after', async () => {
  let refused = false
  const kernel = new ScriptedKernel(({ type }) => {
    if (type !== RTM_DELLINK || refused) return [{ kind: 'ack' }]
    refused = true
    return [{ kind: 'error', errno: 1 }]
  })
  const deletions = new LinkDeletions(new Rtnetlink(() => new NetlinkSocket(kernel)))
  await expect(deletions.delete(5)).rejects.toThrow('EPERM')
  await deletions.delete(6)
})
