import { expect, test } from 'vitest'
import { run } from '../linux/exec.ts'
import { createAnonymousNetns } from '../linux/netns.ts'
import { localAddresses } from './local-addresses.ts'

test('localAddresses() has those of links without a carrier, and not those of links that are down', async () => {
  using netns = createAnonymousNetns()
  const commands = [
    'link set lo up',
    'link add quiet type bridge',
    'address add 192.0.2.1/24 dev quiet',
    'address add 2001:db8::1/64 dev quiet nodad',
    'link set quiet up',
    'link add idle type bridge',
    'address add 198.51.100.1/24 dev idle',
    'link add many type bridge',
    'link set many up',
  ]
  for (const command of commands) expect((await run(['ip', ...command.split(' ')], { netns })).stderr, command).toBe('')
  // More than one message holds.
  const many = Array.from({ length: 2000 }, (_, i) => `address add 10.1.${i >> 8}.${i & 255}/32 dev many\n`).join('')
  expect((await run(['ip', '-batch', '-'], { netns, input: many })).stderr).toBe('')
  const found = netns.enter(localAddresses)
  expect([...found]).toEqual(expect.arrayContaining(['127.0.0.1', '::1', '192.0.2.1', '2001:db8::1', '10.1.7.207']))
  expect(found).not.toContain('198.51.100.1')
  expect([...found].filter((ip) => ip.startsWith('10.1.'))).toHaveLength(2000)
})
