import { describe } from 'vitest'
import { testNftClient } from '../../test/contract/nft-client.ts'
import { fakeNftables } from './fake-nftables.ts'

describe('fakeNftables', () => {
  testNftClient(
    () => {
      const client = fakeNftables()
      return {
        client,
        changeAsSomebodyElse: (transaction) => client.simulateForeignChange(transaction),
        [Symbol.dispose]: () => client[Symbol.dispose](),
      }
    },
    { foreign: true },
  )
})
