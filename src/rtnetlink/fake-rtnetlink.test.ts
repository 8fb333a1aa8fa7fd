import { describe, expect, test } from 'vitest'
import { FakeRtnetlink } from './fake-rtnetlink.ts'
import { testRtnetlink } from '../../test/contract/rtnetlink.ts'

describe('FakeRtnetlink', () => {
  testRtnetlink(() => {
    const kernel = new FakeRtnetlink()
    return {
      here: kernel.createNetns('here'),
      there: kernel.createNetns('there'),
      open: (netns) => kernel.open(netns),
      [Symbol.dispose]() {},
    }
  })

  test('overrun: is told to those who watch', () => {
    const kernel = new FakeRtnetlink()
    using rtnetlink = kernel.open(kernel.createNetns('here'))
    const lost: string[] = []
    rtnetlink.watchRoutes(
      () => {},
      ({ message }) => lost.push(message),
    )
    kernel.overrun()
    expect(lost).toEqual([expect.stringContaining('ENOBUFS')])
  })
})
