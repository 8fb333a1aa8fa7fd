import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { findKernelModule } from './kernel-module.ts'

const folder = mkdtempSync(join(tmpdir(), 'fairlead-modules-'))
afterAll(() => rmSync(folder, { recursive: true }))

test.each([
  ['nf_tables', 'loaded'],
  ['veth', 'loaded'],
  ['ip_vs', 'on disk'],
  ['ip_vs_rr', 'on disk'],
  ['nft_masq', 'on disk'],
  ['ip_v', undefined],
  ['dummy', undefined],
])('findKernelModule() finds %s: %s', (name, expected) => {
  const sys = join(folder, 'sys')
  mkdirSync(join(sys, 'nf_tables'), { recursive: true })
  mkdirSync(join(folder, '6.1.0'), { recursive: true })
  writeFileSync(join(folder, '6.1.0', 'modules.builtin'), 'kernel/drivers/net/veth.ko\n')
  const dependencies = [
    'kernel/net/netfilter/ipvs/ip_vs.ko: kernel/lib/libcrc32c.ko',
    'kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz: kernel/net/netfilter/ipvs/ip_vs.ko.xz',
    'kernel/net/netfilter/nft-masq.ko.zst:',
  ]
  writeFileSync(join(folder, '6.1.0', 'modules.dep'), `${dependencies.join('\n')}\n`)
  expect(findKernelModule(name, { sys, modules: folder, kernel: '6.1.0' })).toBe(expected)
  expect(findKernelModule('ip_vs', { sys, modules: folder, kernel: '6.2.0' })).toBeUndefined()
})
