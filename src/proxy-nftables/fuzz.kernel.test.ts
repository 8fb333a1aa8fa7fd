import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { createAnonymousNetns } from '../linux/netns.ts'
import { parseCidr } from '../net/cidr.ts'
import { openNftables } from '../nftables/open-client.ts'
import {
  arbitraryManifests,
  fuzzNode,
  fuzzPods,
  fuzzServiceRanges,
  snapshotOfManifests,
} from '../../test/fuzz/arbitrary-objects.ts'
import { compileServices, type CompiledServices } from '../proxy/compile-services.ts'
import { NftablesMode } from './nftables-mode.ts'

const settings = {
  localPods: fuzzPods.map(parseCidr),
  masqueradeAll: false,
  nodePortAddresses: undefined,
  serviceCIDRs: fuzzServiceRanges.map(parseCidr),
}

test('the kernel takes every change from some random Services to others, and then holds what was wanted', async () => {
  using netns = createAnonymousNetns()
  using nft = openNftables({ log: silentLog, netns })
  let mode = new NftablesMode(nft, { log: silentLog })
  let previous: CompiledServices | undefined
  let count = 0
  await fc.assert(
    fc.asyncProperty(arbitraryManifests, async (manifests) => {
      const services = compileServices(snapshotOfManifests(manifests), {
        nodeName: fuzzNode.name,
        settings,
        previous,
        recalled: previous ? undefined : await mode.recall(),
      })
      previous = services
      await mode.sync(services)
      expect((await mode.plan(services)).lines).toEqual([])
      // Now and then the daemon starts anew.
      if (++count % 10 === 0) {
        mode = new NftablesMode(nft, { log: silentLog })
        previous = undefined
      }
    }),
    { numRuns: 60, endOnFailure: true },
  )
  await mode.cleanup()
  expect(await nft.listTables()).toEqual([])
})
