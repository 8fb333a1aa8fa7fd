import { expect, test } from 'vitest'
import type { ListedChain } from '../nftables/client.ts'
import { findModes } from './find-modes.ts'

const kernel = (tables: readonly string[], chains: readonly string[] = []) => ({
  listTables: async () =>
    tables.map((text) => {
      const [family, name = ''] = text.split(' ')
      return { family: family === 'inet' ? ('inet' as const) : ('ip' as const), name }
    }),
  listChains: async () =>
    chains.map((name): ListedChain => {
      return { family: 'ip', table: 'nat', name, hook: undefined, policy: undefined, refusesAll: undefined }
    }),
})

test.each([
  [[], [], []],
  [['inet fairlead-services', 'inet fairlead-anchor', 'inet other'], [], ['nftables']],
  [['inet fairlead-userspace', 'ip fairlead-services'], [], ['userspace']],
  [
    ['ip nat', 'inet fairlead-ipvs'],
    ['KUBE-SERVICES', 'FAIRLEAD-SERVICES'],
    ['ipvs', 'iptables'],
  ],
  [['ip nat'], ['KUBE-SERVICES'], []],
])('findModes with the tables %j and the chains %j finds %j', async (tables, chains, modes) => {
  expect(await findModes(kernel(tables, chains))).toEqual(modes)
})
