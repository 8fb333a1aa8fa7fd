import { describe, expect, test } from 'vitest'
import { testIpvsClient } from '../../test/contract/ipvs-client.ts'
import { createAnonymousNetns } from '../linux/netns.ts'
import { setLink } from '../rtnetlink/link-requests.ts'
import { openRtnetlink } from '../rtnetlink/rtnetlink.ts'
import { openIpvs } from './open-client.ts'

const available = await hasIpvs()

describe.skipIf(!available)('openIpvs() (where the kernel has IPVS: npm run test:vm)', () => {
  testIpvsClient(async () => {
    using scope = new DisposableStack()
    const netns = scope.use(createAnonymousNetns())
    using rtnetlink = openRtnetlink({ netns })
    // Where no link is up, there is no table of local addresses, and IPVS takes every real server for a broadcast address.
    await rtnetlink.run([setLink('lo', { up: true })])
    const client = scope.use(openIpvs({ netns }))
    const owned = scope.move()
    return { client, [Symbol.dispose]: () => owned.dispose() }
  })
})

test.skipIf(available)('openIpvs() says what is missing where the kernel has no IPVS', async () => {
  using client = openIpvs()
  await expect(client.list()).rejects.toThrow('CONFIG_IP_VS')
})

async function hasIpvs(): Promise<boolean> {
  using client = openIpvs()
  return await client.info().then(
    () => true,
    () => false,
  )
}
