import { describe, expect, it } from 'vitest'
import { silentLog } from '../base/log.ts'
import type { Service } from '../model/service.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { compileServices, defaultProxySettings, type CompiledServices } from './compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from './example-objects.ts'
import { FakeConntrack } from './fake-conntrack.ts'
import { StaleFlows } from './stale-flows.ts'

const settings = {
  ...defaultProxySettings,
  localPods: [parseCidr('10.0.0.0/8')],
  serviceCIDRs: [parseCidr('10.96.0.0/12')],
}
const here = (address: string) => ({ address, nodeName: 'this-node' })

const dns = (fields: Partial<Omit<Service, 'clusterIPs' | 'ports' | 'externalIPs' | 'name'>> = {}) =>
  exampleService('dns', { clusterIPs: ['10.96.0.10'], ports: ['53:30053/udp'], ...fields })

type Objects = Parameters<typeof exampleSnapshot>[0]

function harness() {
  const conntrack = new FakeConntrack()
  const flows = new StaleFlows({ conntrack, log: silentLog, localAddresses: () => new Set([parseIp('192.168.0.2')]) })
  let previous: CompiledServices | undefined
  return {
    conntrack,
    /** Compiles, reconciles, and says which connections are left, by their client's port. */
    apply: async (objects: Objects) => {
      const snapshot = exampleSnapshot(objects)
      previous = compileServices(snapshot, {
        nodeName: 'this-node',
        settings,
        ...(previous && { previous }),
      })
      const result = await flows.reconcile(previous)
      return { ...result, left: conntrack.entries.map((entry) => entry.original.sourcePort) }
    },
  }
}

const slice = (service: Service, ...endpoints: Parameters<typeof exampleSlice>[1]) =>
  exampleSlice(service, endpoints, { ports: ['5353/udp'] })

describe('StaleFlows', () => {
  it('forgets connections to an endpoint that was replaced, and no others', async () => {
    const { conntrack, apply } = harness()
    const service = dns()
    await apply([[service, slice(service, '10.0.0.1', '10.0.0.2')]])
    conntrack.add('udp', { from: '10.0.0.9 1', asked: '10.96.0.10 53', to: '10.0.0.1 5353' })
    conntrack.add('udp', { from: '10.0.0.9 2', asked: '10.96.0.10 53', to: '10.0.0.2 5353' })
    conntrack.add('udp', { from: '203.0.113.2 3', asked: '192.168.0.2 30053', to: '10.0.0.1 5353' })
    conntrack.add('udp', { from: '10.0.0.9 4', asked: '9.9.9.9 30053' })
    conntrack.add('tcp', { from: '10.0.0.9 5', asked: '10.96.0.10 53', to: '10.0.0.1 5353' })
    conntrack.asked.length = 0
    const { left, deleted, services } = await apply([[service, slice(service, '10.0.0.3', '10.0.0.2')]])
    expect(left).toEqual([2, 4, 5])
    expect(deleted).toEqual({ 4: 2, 6: 0 })
    expect(services).toEqual(['default/dns'])
    // The kernel was asked for this Service's frontends alone.
    expect(conntrack.asked.map(({ original }) => original)).toEqual([
      { destination: '10.96.0.10', protocol: 17, destinationPort: 53 },
      { protocol: 17, destinationPort: 30053 },
    ])
  })

  it.each([
    ['the last endpoint is gone', (s: Service): Objects => [[s, slice(s)]]],
    ['its slices are gone', (s: Service): Objects => [[s]]],
    ['the Service is deleted', (): Objects => []],
    [
      'its port changes',
      (s: Service): Objects => [[exampleService('dns', { ports: ['54:30053/udp'] }), slice(s, '10.0.0.1')]],
    ],
  ])('forgets them when %s', async (_name, change) => {
    const { conntrack, apply } = harness()
    const service = dns()
    await apply([[service, slice(service, '10.0.0.1')]])
    conntrack.add('udp', { from: '10.0.0.9 1', asked: '10.96.0.10 53', to: '10.0.0.1 5353' })
    expect((await apply(change(service))).left).toEqual([])
  })

  it('forgets connections that nobody translated once there is a Service for them', async () => {
    const { conntrack, apply } = harness()
    await apply([])
    conntrack.add('udp', { from: '10.0.0.9 1', asked: '10.96.0.10 53' })
    conntrack.add('udp', { from: '203.0.113.2 2', asked: '192.168.0.2 30053' })
    conntrack.add('udp', { from: '10.0.0.9 3', asked: '10.96.0.11 53' })
    const service = dns()
    expect((await apply([[service, slice(service, '10.0.0.1')]])).left).toEqual([3])
  })

  it('lets connections end at an endpoint that terminates and still serves, until it no longer does', async () => {
    const { conntrack, apply } = harness()
    const service = dns()
    const leaving = { address: '10.0.0.1', ready: false, terminating: true }
    await apply([[service, slice(service, '10.0.0.1', '10.0.0.2')]])
    conntrack.add('udp', { from: '10.0.0.9 1', asked: '10.96.0.10 53', to: '10.0.0.1 5353' })
    expect((await apply([[service, slice(service, leaving, '10.0.0.2')]])).left).toEqual([1])
    const gone = { ...leaving, serving: false }
    expect((await apply([[service, slice(service, gone, '10.0.0.2')]])).left).toEqual([])
  })

  it('under policy Local forgets those of clients outside that lead to other nodes', async () => {
    const { conntrack, apply } = harness()
    const service = dns()
    const endpoints = [here('10.0.0.1'), '10.0.2.1'] as const
    await apply([[service, slice(service, ...endpoints)]])
    conntrack.add('udp', { from: '203.0.113.2 1', asked: '192.168.0.2 30053', to: '10.0.0.1 5353' })
    conntrack.add('udp', { from: '203.0.113.2 2', asked: '192.168.0.2 30053', to: '10.0.2.1 5353' })
    conntrack.add('udp', { from: '10.0.0.9 3', asked: '192.168.0.2 30053', to: '10.0.2.1 5353' })
    const local = dns({ externalTrafficPolicy: 'Local' })
    expect((await apply([[local, slice(local, ...endpoints)]])).left).toEqual([1, 3])
  })

  it('looks at everything when the daemon starts, Services that went meanwhile included', async () => {
    const { conntrack, apply } = harness()
    conntrack.add('udp', { from: '10.0.0.9 1', asked: '10.96.0.10 53', to: '10.0.0.1 5353' })
    conntrack.add('udp', { from: '10.0.0.9 2', asked: '10.96.0.10 53', to: '10.0.0.8 5353' })
    conntrack.add('udp', { from: '10.0.0.9 3', asked: '10.96.0.99 53', to: '10.0.0.8 5353' })
    conntrack.add('udp', { from: '10.0.0.9 4', asked: '8.8.8.8 53', to: '10.0.0.8 5353' })
    const service = dns()
    expect((await apply([[service, slice(service, '10.0.0.1')]])).left).toEqual([1, 4])
  })

  it('reads the table once when many Services changed', async () => {
    const { conntrack, apply } = harness()
    await apply([])
    conntrack.asked.length = 0
    await apply(
      Array.from({ length: 40 }, (_, i) => {
        const service = exampleService(`s${i}`, { clusterIPs: [`10.96.1.${i}`], ports: ['53/udp'] })
        return [service, slice(service, '10.0.0.1')] as const
      }),
    )
    expect(conntrack.asked).toHaveLength(2)
  })

  it('does the same again after an error', async () => {
    const { conntrack, apply } = harness()
    const service = dns()
    await apply([[service, slice(service, '10.0.0.1')]])
    conntrack.add('udp', { from: '10.0.0.9 1', asked: '10.96.0.10 53', to: '10.0.0.1 5353' })
    const broken = conntrack.delete.bind(conntrack)
    conntrack.delete = () => Promise.reject(new Error('no buffer'))
    await expect(apply([[service, slice(service, '10.0.0.2')]])).rejects.toThrow('no buffer')
    conntrack.delete = broken
    expect((await apply([[service, slice(service, '10.0.0.2')]])).left).toEqual([])
  })

  it('asks nothing of the kernel when no UDP port changed', async () => {
    const { conntrack, apply } = harness()
    const web = exampleService('web')
    await apply([[web, exampleSlice(web, ['10.0.0.1'])]])
    conntrack.asked.length = 0
    await apply([[web, exampleSlice(web, ['10.0.0.2'])]])
    expect(conntrack.asked).toEqual([])
  })
})
