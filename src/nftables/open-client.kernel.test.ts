import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { testNftClient } from '../../test/contract/nft-client.ts'
import { servicesTable } from '../../test/fixtures/nftables/services-table.ts'
import { createNetns, type Netns } from '../linux/netns.ts'
import { NETLINK_NETFILTER } from '../netlink/message.ts'
import { openNetlink } from '../netlink/netlink-socket.ts'
import { parseIp } from '../net/ip-address.ts'
import { diffTable } from './diff.ts'
import { withFingerprint } from './fingerprint.ts'
import { formatTable, formatTransaction } from './format.ts'
import { registerBytes } from './keys.ts'
import { NFNLGRP_NFTABLES } from './nf-tables-messages.ts'
import type { NftSet, TableState } from './objects.ts'
import { openNftables } from './open-client.ts'

let count = 0
function netnsForTest(): Netns {
  return createNetns(`nft-test-${process.pid}-${count++}`)
}

const hasNft = spawnSync('nft', ['--version']).status === 0
const noNft = 'nft is not installed'

function nft(netns: Netns, args: readonly string[], input = ''): string {
  const { status, stdout, stderr } = netns.enter(() => spawnSync('nft', args, { input, encoding: 'utf8' }))
  if (status !== 0) throw new Error(`nft ${args.join(' ')}: ${stderr}`)
  return stdout
}

describe('the kernel', () => {
  testNftClient(
    () => {
      const netns = netnsForTest()
      const client = openNftables({ netns })
      return {
        client,
        changeAsSomebodyElse: (transaction) => void nft(netns, ['-f', '-'], formatTransaction(transaction)),
        [Symbol.dispose]() {
          client[Symbol.dispose]()
          netns[Symbol.dispose]()
        },
      }
    },
    { foreign: hasNft || noNft },
  )

  test.skipIf(!hasNft)(`formatTable() prints the table as nft lists it (skipped when ${noNft})`, async () => {
    using netns = netnsForTest()
    using client = openNftables({ netns })
    const { family, name } = servicesTable
    await client.run({ family, table: name, changes: diffTable(undefined, servicesTable) })
    expect(nft(netns, ['list', 'table', family, name])).toBe(formatTable(withFingerprint(servicesTable)))
  })

  test.skipIf(!hasNft)(
    `listChains() reads policies and refusals of other programs (skipped when ${noNft})`,
    async () => {
      using netns = netnsForTest()
      using client = openNftables({ netns })
      const firewall = `
      table inet fw {
        chain middle { type filter hook forward priority filter + 10; policy drop; ct state established accept; }
        chain final { type filter hook forward priority 5; log prefix "no" reject with icmpx admin-prohibited; }
      }
      table netdev n { chain in { type filter hook ingress device lo priority 0; policy drop; }; }
      table arp a { chain in { type filter hook input priority 0; policy drop; }; }
    `
      nft(netns, ['-f', '-'], firewall)
      netns.enter(() => spawnSync('iptables-nft', ['-A', 'FORWARD', '-j', 'REJECT']))
      const chains = await client.listChains()
      const fw = { family: 'inet', table: 'fw' }
      const hook = { type: 'filter', hook: 'forward', priority: 10 }
      expect(chains.slice(0, 2)).toEqual([
        { ...fw, name: 'middle', hook, policy: 'drop', refusesAll: undefined },
        { ...fw, name: 'final', hook: { ...hook, priority: 5 }, policy: 'accept', refusesAll: 'reject' },
      ])
      expect(chains.find(({ name }) => name === 'FORWARD')?.refusesAll ?? 'reject').toBe('reject')
    },
  )

  test('run() and read() carry 110,000 elements, and one change stays cheap among them', async () => {
    using netns = netnsForTest()
    using client = openNftables({ netns })
    const { family, name } = servicesTable
    const large = largeTable({ frontends: 10_000, endpointsEach: 5 })
    const cold = await client.run({ family, table: name, changes: diffTable(undefined, large) })
    const start = performance.now()
    const read = await client.read(family, name)
    const readMs = performance.now() - start
    expect(read?.elements).toEqual(large.elements)
    expect(diffTable(read, large)).toEqual([])

    const endpoints = large.sets.find((set) => set.name === 'endpoints-4') as NftSet
    const changes: number[] = []
    for (let port = 1; port <= 20; port++) {
      const key = registerBytes({ ip: parseIp('192.0.2.1') }, { protocol: 'udp' }, { port }, { number: 0 })
      const elements = new Map([[key, registerBytes({ ip: parseIp('192.0.2.2') }, { port })]])
      const change = await client.run({
        family,
        table: name,
        changes: [{ op: 'add-elements', set: endpoints, elements }],
      })
      expect(change).toMatchObject({ messages: 3, elements: 1 })
      changes.push(change.kernelMs)
    }
    changes.sort((a, b) => a - b)
    const kernelMs = cold.kernelMs.toFixed(0)
    console.log(
      `nftables: ${cold.elements} elements, ${cold.bytes} bytes in one sendmsg: kernel ${kernelMs} ms, ` +
        `read ${readMs.toFixed(0)} ms, one element more: kernel ${(changes[10] ?? 0).toFixed(3)} ms (median of 20)`,
    )
    expect(cold.elements).toBeGreaterThan(110_000)
  })

  test.skipIf(!hasNft)(
    'run() tells of a large transaction of its own to nobody, and of foreign changes after it',
    async () => {
      using netns = netnsForTest()
      using client = openNftables({ netns })
      const { family, name } = servicesTable
      const seen: string[] = []
      client.watch({ onChange: ({ table }) => seen.push(table), onLost: () => seen.push('lost') })
      const large = largeTable({ frontends: 2_000, endpointsEach: 2 })
      await client.run({ family, table: name, changes: diffTable(undefined, large) })
      await client.run({ family, table: name, changes: [{ op: 'add-chain', chain: { name: 'late' } }] })
      nft(netns, ['add', 'table', 'ip', 'other'])
      await expect.poll(() => seen.length).toBeGreaterThan(0)
      expect(seen).toEqual(['other'])
    },
  )

  test('openNetlink() tells when the kernel had to drop notifications, and lives on', async () => {
    using netns = netnsForTest()
    using client = openNftables({ netns })
    using follower = openNetlink({ protocol: NETLINK_NETFILTER, netns, receiveBuffer: 1 << 16 })
    let lost = 0
    follower.subscribe(
      NFNLGRP_NFTABLES,
      () => {},
      () => lost++,
    )
    const { family, name } = servicesTable
    const large = largeTable({ frontends: 5_000, endpointsEach: 2 })
    await client.run({ family, table: name, changes: diffTable(undefined, large) })
    await expect.poll(() => lost, { timeout: 5_000 }).toBe(1)
  })

  test('openNftables() says what it needs when it is not root', () => {
    const script = `
      const { openNftables } = await import(${JSON.stringify(new URL('open-client.ts', import.meta.url).href)})
      const { isPermissionDenied } = await import(${JSON.stringify(new URL('nftables-error.ts', import.meta.url).href)})
      try { openNftables() } catch (error) { console.log(isPermissionDenied(error), error.message) }`
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      uid: 65534,
      gid: 65534,
      encoding: 'utf8',
    })
    expect(stderr + stdout).toBe('true open nf_tables: not permitted: nf_tables needs root or CAP_NET_ADMIN\n')
  })

  test('run() leaves the comment of a table that exists as it is: the kernel cannot change it', async () => {
    using netns = netnsForTest()
    using client = openNftables({ netns })
    for (const comment of ['first', 'second']) {
      await client.run({ family: 'inet', table: 't', changes: [{ op: 'add-table', comment }] })
    }
    expect((await client.read('inet', 't'))?.comment).toBe('first')
  })

  test('run() keeps the comment of a set as long as the kernel keeps its user data', async () => {
    using netns = netnsForTest()
    using client = openNftables({ netns })
    const six = servicesTable.sets.find((set) => set.name === 'endpoints-4') as NftSet
    const set = { ...six, comment: 'a long comment '.repeat(10) }
    await client.run({ family: 'inet', table: 't', changes: [{ op: 'add-table' }, { op: 'add-set', set }] })
    const [read] = (await client.read('inet', 't'))?.sets ?? []
    expect(read?.key).toEqual(set.key)
    expect(set.comment.startsWith(read?.comment ?? '-')).toBe(true)
  })

  test('run() tries again while others commit to other tables', async () => {
    using netns = netnsForTest()
    using client = openNftables({ netns })
    using other = openNftables({ netns })
    await client.run({ family: 'inet', table: 'ours', changes: [{ op: 'add-table' }] })
    const rounds = Array.from({ length: 50 }, (_, index) => index)
    await Promise.all([
      ...rounds.map((n) => client.run({ family: 'inet', table: 'ours', changes: [chain(n)] })),
      ...rounds.map((n) => other.run({ family: 'ip', table: 'theirs', changes: [{ op: 'add-table' }, chain(n)] })),
    ])
    expect((await client.read('inet', 'ours'))?.chains.length).toBe(50)
  })
})

function chain(number: number) {
  return { op: 'add-chain', chain: { name: `c${number}` } } as const
}

/** The layout of the fixture with many elements: a frontend, its endpoints, and each endpoint in the hairpin set. */
function largeTable(size: { readonly frontends: number; readonly endpointsEach: number }): TableState {
  const frontends = new Map<string, string>()
  const endpoints = new Map<string, string>()
  const hairpin = new Map<string, string>()
  const address = (first: number, n: number) => ({ ip: parseIp(`${first}.${n >> 16}.${(n >> 8) & 255}.${n & 255}`) })
  for (let f = 0; f < size.frontends; f++) {
    const key = [address(172, f), { protocol: 'tcp' }, { port: 80 }] as const
    frontends.set(registerBytes(...key), registerBytes({ number: 0xf1a0_0002 }))
    for (let e = 0; e < size.endpointsEach; e++) {
      const pod = address(10, f * size.endpointsEach + e)
      endpoints.set(registerBytes(...key, { number: e }), registerBytes(pod, { port: 8080 }))
      hairpin.set(registerBytes(pod, pod), '')
    }
  }
  const elements = new Map(servicesTable.elements)
  elements.set('frontends-4', frontends).set('endpoints-4', endpoints).set('hairpin-4', hairpin)
  return { ...servicesTable, elements }
}
