import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { testIptablesClient } from '../../test/contract/iptables-client.ts'
import { run } from '../linux/exec.ts'
import { createAnonymousNetns } from '../linux/netns.ts'
import type { IpFamily } from '../net/ip-address.ts'
import type { Variant } from './client.ts'
import { detectVariant } from './detect-variant.ts'
import { openIptables } from './open-client.ts'

const kinds: readonly { readonly variant: Variant; readonly family: IpFamily }[] = [
  { variant: 'legacy', family: 4 },
  { variant: 'nft', family: 6 },
]

describe.each(kinds)('openIptables() with the $variant tools, IPv$family', ({ variant, family }) => {
  testIptablesClient(async () => {
    using scope = new DisposableStack()
    const netns = scope.use(createAnonymousNetns())
    const client = await openIptables({ variant, family, netns })
    const owned = scope.move()
    return { client, [Symbol.dispose]: () => owned.dispose() }
  })
})

test('openIptables() names the line that was refused', async () => {
  using netns = createAnonymousNetns()
  for (const variant of ['legacy', 'nft'] as const) {
    const client = await openIptables({ variant, family: 4, netns })
    const chains = new Map([['A', ['-p tcp -m tcp --dport 80 -j RETURN', '-p tcp -m tcp --dport bad -j RETURN']]])
    await expect(client.restore([{ table: 'filter', chains }])).rejects.toMatchObject({
      line: '-A A -p tcp -m tcp --dport bad -j RETURN',
    })
  }
})

test('openIptables(): a tool that was started ahead and is killed before its time is replaced by another', async () => {
  using netns = createAnonymousNetns()
  const client = await openIptables({ variant: 'legacy', family: 4, netns })
  using started = client.startRestore()
  const [pid, ...more] = childrenNamed('iptables-legacy')
  expect(more).toEqual([])
  process.kill(pid!, 'SIGKILL')
  await expect.poll(() => childrenNamed('iptables-legacy')).toEqual([])
  await started.restore([{ table: 'filter', chains: new Map([['A', ['-j RETURN']]]) }])
  expect((await client.save(['filter'])).get('filter')?.get('A')).toEqual(['-j RETURN'])
})

test('openIptables(): a tool that was started ahead ends with whoever started it', async () => {
  using netns = createAnonymousNetns()
  const client = await openIptables({ variant: 'legacy', family: 4, netns })
  const started = client.startRestore()
  expect(childrenNamed('iptables-legacy')).toHaveLength(1)
  started[Symbol.dispose]()
  await expect.poll(() => childrenNamed('iptables-legacy')).toEqual([])
})

/** Children of this process, by the beginning of their program's name. */
function childrenNamed(name: string): number[] {
  const threads = readdirSync('/proc/self/task')
  const pids = threads.flatMap((thread) => readFileSync(`/proc/self/task/${thread}/children`, 'utf8').trim().split(' '))
  return pids.map(Number).filter((pid) => pid > 0 && readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith(name))
}

describe('detectVariant()', () => {
  test('takes the kind that has kubelet’s chain, although the other has more rules', async () => {
    using netns = createAnonymousNetns()
    await run(['iptables-nft', '-A', 'INPUT', '-j', 'ACCEPT'], { netns })
    await run(['iptables-legacy', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT'], { netns })
    expect(await detectVariant({ netns })).toEqual({
      variant: 'legacy',
      reason: "kubelet's chain KUBE-IPTABLES-HINT is in the legacy tables",
    })
  })

  test.each(['legacy', 'nft'] as const)('takes the kind that has more rules: %s', async (variant) => {
    using netns = createAnonymousNetns()
    await run([`iptables-${variant}`, '-A', 'INPUT', '-j', 'ACCEPT'], { netns })
    expect((await detectVariant({ netns })).variant).toBe(variant)
  })

  test('asks plain iptables where there are no rules, and makes no tables', async () => {
    using netns = createAnonymousNetns()
    const { stdout } = await run(['iptables', '--version'])
    expect((await detectVariant({ netns })).variant).toBe(stdout.includes('legacy') ? 'legacy' : 'nft')
    const { stdout: tables } = await run(['cat', '/proc/net/ip_tables_names'], { netns })
    expect(tables).toBe('')
  })
})
