import { describe, expect, it } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { compileServices, defaultProxySettings, type CompiledServices } from './compile-services.ts'
import { Draining } from './draining.ts'
import { exampleService, exampleSlice, exampleSnapshot } from './example-objects.ts'
import { FakeConntrack } from './fake-conntrack.ts'

function harness(annotations: Record<string, string> = {}) {
  const conntrack = new FakeConntrack()
  const clock = new FakeClock()
  const draining = new Draining({ conntrack, clock, log: silentLog })
  const service = exampleService('web', { ports: ['80:30080/tcp'], annotations })
  let previous: CompiledServices | undefined
  return {
    conntrack,
    clock,
    draining,
    apply: (...endpoints: Parameters<typeof exampleSlice>[1]) => {
      const snapshot = exampleSnapshot([[service, exampleSlice(service, endpoints)]])
      previous = compileServices(snapshot, {
        nodeName: 'this-node',
        settings: defaultProxySettings,
        ...(previous && { previous }),
      })
      draining.update(previous)
    },
    remove: () => {
      previous = compileServices(exampleSnapshot([]), {
        nodeName: 'this-node',
        settings: defaultProxySettings,
        ...(previous && { previous }),
      })
      draining.update(previous)
    },
    summary: () => draining.endpoints.map((e) => `${e.service} ${e.ip} ${e.port}: ${e.connections}`),
  }
}

describe('Draining', () => {
  it('counts the connections of an endpoint that went until the last has ended', async () => {
    const { conntrack, clock, apply, summary, draining } = harness()
    apply('10.0.0.1', '10.0.0.2')
    const first = conntrack.add('tcp', { from: '10.0.0.9 1', asked: '10.96.0.1 80', to: '10.0.0.1 8080' })
    conntrack.add('tcp', { from: '10.0.0.9 2', asked: '192.0.2.1 30080', to: '10.0.0.1 8080' })
    conntrack.add('tcp', { from: '10.0.0.9 3', asked: '10.96.0.77 80', to: '10.0.0.1 8080' })
    apply('10.0.0.2')
    expect(summary()).toEqual(['default/web 10.0.0.1 8080: undefined'])
    await clock.advance(5000)
    expect(summary()).toEqual(['default/web 10.0.0.1 8080: 2'])
    await conntrack.delete([first])
    await clock.advance(5000)
    expect(summary()).toEqual(['default/web 10.0.0.1 8080: 1'])
    await conntrack.delete(conntrack.entries)
    await clock.advance(5000)
    expect(summary()).toEqual([])
    expect(draining.connectionsReset).toBe(0)
  })

  it('follows the endpoints of a Service that was deleted', async () => {
    const { conntrack, clock, apply, remove, summary } = harness()
    apply('10.0.0.1')
    conntrack.add('tcp', { from: '10.0.0.9 1', asked: '10.96.0.1 80', to: '10.0.0.1 8080' })
    remove()
    await clock.advance(5000)
    expect(summary()).toEqual(['default/web 10.0.0.1 8080: 1'])
  })

  it('ends what is left where the Service says so, when it says so, and not the connections of others', async () => {
    const { conntrack, clock, apply, draining } = harness({ 'fairlead.dev/drain-seconds': '12' })
    apply('10.0.0.1', '10.0.0.2')
    conntrack.add('tcp', { from: '10.0.0.9 1', asked: '10.96.0.1 80', to: '10.0.0.1 8080' })
    conntrack.add('tcp', { from: '10.0.0.9 2', asked: '10.96.0.1 80', to: '10.0.0.2 8080' })
    conntrack.add('tcp', { from: '10.0.0.9 3', asked: '10.96.0.77 80', to: '10.0.0.1 8080' })
    apply('10.0.0.2')
    expect(draining.endpoints[0]?.endsInMs).toBe(12_000)
    await clock.advance(11_999)
    expect(conntrack.entries).toHaveLength(3)
    await clock.advance(1)
    expect(conntrack.entries.map((e) => e.original.sourcePort)).toEqual([2, 3])
    expect(draining.connectionsReset).toBe(1)
    expect(draining.endpoints).toEqual([])
  })

  it('forgets an endpoint that came back', async () => {
    const { apply, summary } = harness()
    apply('10.0.0.1', '10.0.0.2')
    apply('10.0.0.2')
    apply('10.0.0.1', '10.0.0.2')
    expect(summary()).toEqual([])
  })

  it('has no interest in a ready endpoint that hints pass over', () => {
    const { apply, summary } = harness()
    const hinted = (address: string, node: string) => ({ address, hints: { zones: [], nodes: [node] } })
    apply(hinted('10.0.0.1', 'other'), hinted('10.0.0.2', 'other'))
    apply(hinted('10.0.0.1', 'other'), hinted('10.0.0.2', 'this-node'))
    expect(summary()).toEqual([])
  })

  it('counts an endpoint that terminates, and tries again after an error', async () => {
    const { conntrack, clock, apply, summary } = harness()
    apply('10.0.0.1', '10.0.0.2')
    conntrack.add('tcp', { from: '10.0.0.9 1', asked: '10.96.0.1 80', to: '10.0.0.1 8080' })
    const list = conntrack.list.bind(conntrack)
    conntrack.list = () => Promise.reject(new Error('no buffer'))
    apply({ address: '10.0.0.1', ready: false, terminating: true }, '10.0.0.2')
    await clock.advance(5000)
    conntrack.list = list
    await clock.advance(5000)
    expect(summary()).toEqual(['default/web 10.0.0.1 8080: 1'])
  })
})
