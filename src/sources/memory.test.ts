import { describe, expect, test } from 'vitest'
import { parsePod } from '../model/parse-pod.ts'
import { MemorySource } from './memory.ts'

const pod = (name: string, podIP: string) => parsePod({ metadata: { name }, status: { phase: 'Running', podIP } })

describe('MemorySource', () => {
  test('putPod() and removePod() change the snapshot and tell listeners', () => {
    const source = new MemorySource('own pods')
    const sizes: number[] = []
    const stop = source.subscribe((state) => sizes.push(state.snapshot.pods.size))
    source.putPod(pod('a', '10.1.0.1'))
    source.putPod(pod('b', '10.1.0.2'))
    source.putPod(pod('b', '10.1.0.3'))
    source.removePod('default/a')
    stop()
    source.removePod('default/b')
    expect(sizes).toEqual([1, 2, 2, 1])
    expect(source.snapshot.pods.size).toBe(0)
  })

  test('update() moves a slice to the Service that it names now', () => {
    const source = new MemorySource('test')
    const slice = (service: string) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'x', labels: { 'kubernetes.io/service-name': service } },
      addressType: 'IPv4',
    })
    source.applyManifests([slice('a')])
    source.applyManifests([slice('b')])
    expect([...source.snapshot.slices.keys()]).toEqual(['default/b'])
  })

  test('applyManifests() says what became of each', () => {
    const source = new MemorySource('test')
    const results = source.applyManifests([
      { apiVersion: 'v1', kind: 'Secret' },
      { apiVersion: 'v1', kind: 'Service', metadata: { name: 'A' } },
    ])
    expect(results.map((result) => result.kind)).toEqual(['ignored', 'refused'])
  })

  test('is synced from the start unless it is told otherwise', () => {
    expect(new MemorySource('a').current.synced).toBe(true)
    const late = new MemorySource('b', { synced: false })
    late.markSynced()
    expect(late.current.synced).toBe(true)
  })
})
