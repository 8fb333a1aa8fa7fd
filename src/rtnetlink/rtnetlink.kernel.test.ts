import { describe } from 'vitest'
import { createAnonymousNetns, Netns } from '../linux/netns.ts'
import { openRtnetlink } from './rtnetlink.ts'
import { testRtnetlink } from '../../test/contract/rtnetlink.ts'

describe('Rtnetlink on this kernel', () => {
  testRtnetlink(() => {
    const [here, there] = [createAnonymousNetns(), createAnonymousNetns()]
    return {
      here,
      there,
      open: (netns) => {
        if (!(netns instanceof Netns)) throw new TypeError('not a namespace of this kernel')
        return openRtnetlink({ netns })
      },
      [Symbol.dispose]() {
        here[Symbol.dispose]()
        there[Symbol.dispose]()
      },
    }
  })
})
