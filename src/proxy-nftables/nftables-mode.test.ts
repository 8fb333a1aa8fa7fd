import { assert, asyncProperty, array, constantFrom, integer, record, uniqueArray } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { silentLog, type Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { Snapshot } from '../model/snapshot.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { fakeNftables, type FakeNftables } from '../nftables/fake-nftables.ts'
import { formatTable } from '../nftables/format.ts'
import { compileServices, defaultProxySettings, type CompiledServices } from '../proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { anchorTable } from '../proxy/nftables-anchor.ts'
import { NftablesMode } from './nftables-mode.ts'
import { planTable } from './nftables-plan.ts'
import { compileTable } from './nftables-table.ts'

const settings = {
  ...defaultProxySettings,
  serviceCIDRs: [parseCidr('10.96.0.0/16')],
  localPods: ['10.0.0.0/8', 'fd00::/64'].map(parseCidr),
}

const compile = (snapshot: Snapshot, previous?: CompiledServices) =>
  compileServices(snapshot, { nodeName: 'this-node', settings, previous })

function modeOver(nft: FakeNftables, log: Log = silentLog): NftablesMode {
  return new NftablesMode(nft, { log })
}

const here = (address: string) => ({ address, nodeName: 'this-node' })

/** One Service of each kind. */
function smallSnapshot(): Snapshot {
  const web = exampleService('web', {
    clusterIPs: ['10.96.0.5', 'fd00:96::5'],
    ports: ['http=80:30080/tcp', 'dns=53/udp'],
  })
  const edge = exampleService('edge', {
    clusterIPs: ['10.96.0.6'],
    externalIPs: ['192.0.2.9'],
    externalTrafficPolicy: 'Local',
    ports: ['443:30443/tcp'],
  })
  const open = exampleService('open', { clusterIPs: ['10.96.0.7'], externalIPs: ['192.0.2.10'] })
  const empty = exampleService('empty', { clusterIPs: ['10.96.0.8'] })
  const elsewhere = exampleService('elsewhere', { clusterIPs: ['10.96.0.9'], internalTrafficPolicy: 'Local' })
  const sticky = exampleService('sticky', {
    type: 'LoadBalancer',
    clusterIPs: ['10.96.0.10'],
    ports: ['80:30082/tcp'],
    externalTrafficPolicy: 'Local',
    sessionAffinity: { kind: 'ClientIP', timeoutSeconds: 90 },
    loadBalancerIngress: [{ ip: parseIp('192.0.2.11'), ipMode: 'VIP' }],
    loadBalancerSourceRanges: ['198.51.100.0/24', '198.51.100.128/25'].map(parseCidr),
    annotations: { 'fairlead.dev/source-ranges': 'all' },
  })
  const turns = exampleService('turns', {
    clusterIPs: ['10.96.0.11'],
    annotations: { 'fairlead.dev/algorithm': 'round-robin' },
  })
  const ports = ['http=8080/tcp', 'dns=5353/udp']
  return exampleSnapshot([
    [sticky, exampleSlice(sticky, [here('10.0.0.6'), '10.0.2.6'])],
    [turns, exampleSlice(turns, ['10.0.0.7', '10.0.0.8'])],
    [
      web,
      exampleSlice(web, ['10.0.0.1', '10.0.0.2'], { ports }),
      exampleSlice(web, ['fd00::1'], { name: 'web-6', ports }),
    ],
    [edge, exampleSlice(edge, [here('10.0.0.3'), '10.0.2.3'])],
    [open, exampleSlice(open, ['10.0.0.4'])],
    [empty],
    [elsewhere, exampleSlice(elsewhere, ['10.0.2.5'])],
  ])
}

/** `count` Services with a cluster IP, a node port and five endpoints of their own. */
function manyServices(count: number): Snapshot {
  return exampleSnapshot(
    Array.from({ length: count }, (_, i) => {
      const hex = i.toString(16)
      const ip = (third: number) => `10.${third}.${i >> 8}.${i & 255}`
      const service = exampleService(`s${i}`, {
        clusterIPs: [ip(96), `fd00:96::${hex}`],
        ports: [`80:${30_000 + i}/tcp`],
      })
      const endpoints = [1, 2, 3, 4, 5].map(ip)
      return [
        service,
        exampleSlice(service, endpoints),
        exampleSlice(service, [`fd00::${hex}`], { name: `s${i}-6` }),
      ] as const
    }),
  )
}

/** The snapshot with the first endpoint of Service s3 replaced. */
function withOneEndpointReplaced(snapshot: Snapshot): Snapshot {
  const [v4, ...others] = snapshot.slices.get('default/s3') ?? []
  if (!v4) throw new Error('no s3')
  const endpoints = v4.endpoints.with(0, { ...v4.endpoints[0]!, address: '10.200.0.1' as never })
  return { ...snapshot, slices: snapshot.slices.with([['default/s3', [{ ...v4, endpoints }, ...others]]]) }
}

describe('NftablesMode', () => {
  it('programs one of each kind as in the stored ruleset', async () => {
    const nft = fakeNftables()
    const compiled = compile(smallSnapshot())
    await modeOver(nft).sync(compiled)
    const text = [formatTable(anchorTable), formatTable(compileTable(compiled))].join('\n')
    await expect(text).toMatchFileSnapshot('__snapshots__/nftables-ruleset.nft')
  })

  it('changes nothing at a second sync, nor when another daemon takes over', async () => {
    const nft = fakeNftables()
    const mode = modeOver(nft)
    const compiled = compile(smallSnapshot())
    expect(await mode.sync(compiled)).toMatchObject({ kind: 'full', servicesChanged: 7 })
    expect(await mode.sync(compiled)).toMatchObject({ kind: 'change', servicesChanged: 0, messages: 0 })
    expect(await mode.sync(compiled, { verify: true })).toMatchObject({ kind: 'full', messages: 0 })
    expect(await modeOver(nft).sync(compile(smallSnapshot()))).toMatchObject({ kind: 'full', messages: 0, elements: 0 })
  })

  it('sends the same few elements for one replaced endpoint, whatever the number of Services', async () => {
    const costs = []
    for (const count of [10, 1000]) {
      const mode = modeOver(fakeNftables())
      const first = compile(manyServices(count))
      await mode.sync(first)
      costs.push(await mode.sync(compile(withOneEndpointReplaced(first.snapshot), first)))
    }
    const [few, many] = costs
    // Cluster IP and node port: one slot each, deleted and added; and the old and new endpoint's hairpin entry.
    expect(few).toMatchObject({ kind: 'change', servicesChanged: 1, elements: 6, rules: 0 })
    expect(many).toEqual(few)
  })

  it('recalls slots, so that a restart after many changes writes nothing', async () => {
    const nft = fakeNftables()
    const mode = modeOver(nft)
    const first = compile(manyServices(10))
    await mode.sync(first)
    const changed = compile(withOneEndpointReplaced(first.snapshot), first)
    await mode.sync(changed)

    const heir = modeOver(nft)
    const recalled = await heir.recall()
    const again = compileServices(changed.snapshot, { nodeName: 'this-node', settings, recalled })
    expect(await heir.sync(again)).toMatchObject({ kind: 'full', elements: 0, messages: 0 })
  })

  it('adds the chain of a new endpoint count, and removes it when nobody has that count', async () => {
    const nft = fakeNftables()
    const mode = modeOver(nft)
    const service = exampleService('web')
    const pods = Array.from({ length: 10 }, (_, i) => `10.0.0.${i}`)
    const snapshots = [9, 10, 9].map((count) =>
      exampleSnapshot([[service, exampleSlice(service, pods.slice(0, count))]]),
    )
    const chains: string[][] = []
    let compiled: CompiledServices | undefined
    for (const snapshot of snapshots) {
      compiled = compile(snapshot, compiled)
      await mode.sync(compiled)
      const table = await nft.read('inet', 'fairlead-services')
      chains.push(table!.chains.map((chain) => chain.name).filter((name) => /^vip-4-(9|\d\d)$/.test(name)))
    }
    expect(chains).toEqual([['vip-4-9'], ['vip-4-10'], ['vip-4-9']])
  })

  it('repairs what somebody else removed, and says who', async () => {
    const warnings: [object, string][] = []
    const nft = fakeNftables()
    const mode = modeOver(nft, { ...silentLog, warn: (fields, message) => warnings.push([fields, message]) })
    const compiled = compile(smallSnapshot())
    await mode.sync(compiled)
    let noticed = 0
    mode.watch(() => noticed++)
    const before = nft.transactions.length
    for (const table of ['fairlead-services', 'fairlead-anchor']) {
      nft.simulateForeignChange({ family: 'inet', table, changes: [{ op: 'delete-table' }] })
    }
    expect(noticed).toBe(2)
    expect(await mode.sync(compiled)).toMatchObject({ kind: 'full', repaired: true })
    expect(nft.transactions.slice(before).map((t) => t.table)).toEqual(['fairlead-anchor', 'fairlead-services'])
    expect(warnings).toEqual([
      [
        expect.objectContaining({ process: 'nft', pid: 4242 }),
        expect.stringMatching(/^repaired: \d+ elements, \d+ rules by nft$/),
      ],
    ])
    expect(await mode.sync(compiled)).toMatchObject({ kind: 'change', messages: 0 })
  })

  it('does not care about other tables', async () => {
    const nft = fakeNftables()
    const mode = modeOver(nft)
    await mode.sync(compile(smallSnapshot()))
    let noticed = 0
    mode.watch(() => noticed++)
    nft.simulateForeignChange({ family: 'inet', table: 'other', changes: [{ op: 'add-table' }] })
    expect(noticed).toBe(0)
  })

  it('reads the kernel again after a failed transaction', async () => {
    const nft = fakeNftables()
    const mode = modeOver(nft)
    const first = compile(manyServices(10))
    await mode.sync(first)
    const second = compile(withOneEndpointReplaced(first.snapshot), first)
    const run = nft.run.bind(nft)
    nft.run = () => Promise.reject(new Error('no buffer space available'))
    await expect(mode.sync(second)).rejects.toThrow('no buffer space')
    nft.run = run
    expect(await mode.sync(second)).toMatchObject({ kind: 'full', elements: 6 })
  })

  it('hands an address from one Service to another in one transaction', async () => {
    const nft = fakeNftables()
    const mode = modeOver(nft)
    const [a, b] = ['a', 'b'].map((name) => exampleService(name))
    const both = exampleSnapshot([
      [a!, exampleSlice(a!, ['10.0.0.1'])],
      [b!, exampleSlice(b!, ['10.0.0.2'])],
    ])
    const first = compile(both)
    await mode.sync(first)
    const before = nft.transactions.length
    const second = compile({ ...both, services: both.services.with([], ['default/a']) }, first)
    await mode.sync(second)
    expect(nft.transactions.length).toBe(before + 1)
    expect((await mode.plan(second)).lines).toEqual([])
  })

  it('plans without a kernel, and against it', async () => {
    const nft = fakeNftables()
    const mode = modeOver(nft)
    const compiled = compile(smallSnapshot())
    const whole = planTable(compiled, undefined)
    expect(whole.rules).toBeGreaterThan(20)
    expect(whole.lines.join('\n')).toContain('10.96.0.5 . tcp . 80 : f1a0:2')
    await mode.sync(compiled)
    expect(await mode.plan(compiled)).toEqual({ lines: [], elements: 0, rules: 0 })
  })

  it('cleans up for another mode: closes the entrances first, then deletes its table, and keeps the anchor', async () => {
    const nft = fakeNftables()
    const mode = modeOver(nft)
    await mode.sync(compile(smallSnapshot()))
    const before = nft.transactions.length
    await mode.cleanup({ keepAnchor: true })
    const done = nft.transactions.slice(before)
    expect(done.map(({ changes }) => [...new Set(changes.map(({ op }) => op))])).toEqual([
      ['flush-chain'],
      ['delete-table'],
    ])
    expect(done[0]?.changes).toContainEqual({ op: 'flush-chain', chain: 'prerouting' })
    expect((await nft.listTables()).map(({ name }) => name)).toEqual(['fairlead-anchor'])
  })

  it('cleans up both tables without knowing anything', async () => {
    const nft = fakeNftables()
    await modeOver(nft).sync(compile(smallSnapshot()))
    await modeOver(nft).cleanup()
    expect(await nft.listTables()).toEqual([])
    await modeOver(nft).cleanup()
  })

  it('comes to the same table by changes as at once, for any history', async () => {
    const oneService = record({
      name: integer({ min: 0, max: 4 }),
      policy: constantFrom('Cluster', 'Local'),
      clusterIP: integer({ min: 1, max: 4 }),
      endpoints: uniqueArray(integer({ min: 1, max: 6 }), { maxLength: 4 }),
      here: integer({ min: 0, max: 6 }),
      external: constantFrom(0, 9),
      affinity: constantFrom(0, 0, 60, 90),
      scope: constantFrom('port', 'service'),
      algorithm: constantFrom('random', 'maglev', 'round-robin'),
      ranges: constantFrom([], ['10.0.0.0/8'], ['10.0.0.0/8', '192.0.2.0/24', '192.0.2.0/25']),
      unused: constantFrom(0, 16),
    })
    await assert(
      asyncProperty(array(array(oneService, { maxLength: 4 }), { minLength: 2, maxLength: 6 }), async (history) => {
        const nft = fakeNftables()
        const mode = modeOver(nft)
        let compiled: CompiledServices | undefined
        for (const services of history) {
          const snapshot = exampleSnapshot(
            services.map((s) => {
              const service = exampleService(`s${s.name}`, {
                clusterIPs: [`10.96.0.${s.clusterIP}`],
                externalIPs: s.external ? [`192.0.2.${s.external}`] : [],
                externalTrafficPolicy: s.policy,
                ports: [`80:${30_000 + s.name}/tcp`],
                sessionAffinity: s.affinity ? { kind: 'ClientIP', timeoutSeconds: s.affinity } : { kind: 'None' },
                loadBalancerSourceRanges: s.ranges.map(parseCidr),
                annotations: {
                  'fairlead.dev/source-ranges': 'all',
                  'fairlead.dev/algorithm': s.algorithm,
                  'fairlead.dev/affinity-scope': s.scope,
                },
              })
              const endpoints = s.endpoints.map((n) => (n <= s.here ? here(`10.0.0.${n}`) : { address: `10.0.0.${n}` }))
              return [service, exampleSlice(service, endpoints)] as const
            }),
          )
          const range = { name: 'more', cidrs: [parseCidr(`10.112.0.0/${services[0]?.unused || 24}`)] }
          compiled = compile({ ...snapshot, serviceCIDRs: SharedMap.from([['more', range]]) }, compiled)
          await mode.sync(compiled)
          expect((await modeOver(nft).plan(compiled)).lines).toEqual([])
        }
      }),
      { numRuns: 40 },
    )
  }, 30_000)
})
