import { expect, test } from 'vitest'
import { probeKernelFeatures, rememberFeatures } from './kernel-features.ts'

test('probeKernelFeatures: tries bridge, veth and nf_tables', async () => {
  const features = await probeKernelFeatures()
  expect(features.map(({ name }) => name)).toEqual(['bridge', 'veth', 'nf_tables'])
  for (const { ok, hint } of features) expect(hint === undefined).toBe(ok)
})

test('rememberFeatures: asks once', async () => {
  let asked = 0
  const features = rememberFeatures(() =>
    Promise.resolve([{ name: `${++asked}`, ok: true, detail: '', hint: undefined }]),
  )
  expect(await features()).toBe(await features())
  expect(asked).toBe(1)
})
