import { expect, test } from 'vitest'
import { memoryNeeded, whyTooLittleMemory } from './memory-needed.ts'
import { parseOptions, type BenchOptions } from './options.ts'

const options = parseOptions(['--services', '0,20000', '--modes', 'nftables,iptables-legacy,direct'], {
  suites: [],
  out: 'out',
}) as BenchOptions

test('memoryNeeded counts a proxy for each mode and size, and none for direct', () => {
  // 4 of 80 MB, and 2 x 20,000 Services.
  expect(memoryNeeded(options)).toEqual({ proxies: 4, mb: 720 })
})

test.each([
  { kb: 800_000, expected: undefined },
  {
    kb: 500_000,
    expected:
      '4 proxies at once take about 0.7 GB of memory, and 0.5 GB are free: choose fewer --services or --modes, or --force',
  },
])('whyTooLittleMemory with $kb kB', ({ kb, expected }) => {
  expect(whyTooLittleMemory(options, `MemTotal:  1 kB\nMemAvailable:  ${kb} kB\n`)).toBe(expected)
})

test('whyTooLittleMemory reads what is free here', () => {
  expect(whyTooLittleMemory({ ...options, services: [1e9] })).toMatch(/take about \d+\.\d GB of memory, and \d+\.\d GB/)
})
