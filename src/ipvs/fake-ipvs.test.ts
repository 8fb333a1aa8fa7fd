import { describe, expect, test } from 'vitest'
import { testIpvsClient } from '../../test/contract/ipvs-client.ts'
import { IpvsUnavailableError } from './client.ts'
import { FakeIpvs } from './fake-ipvs.ts'

describe('FakeIpvs', () => {
  testIpvsClient(() => ({ client: new FakeIpvs(), [Symbol.dispose]: () => {} }))

  test('without IPVS in the kernel, every question fails as the real one does', async () => {
    using client = new FakeIpvs({ available: false })
    await expect(client.list()).rejects.toThrow(IpvsUnavailableError)
  })
})
