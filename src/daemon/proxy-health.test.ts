import { describe, expect, test } from 'vitest'
import { parseNode } from '../model/parse-node.ts'
import { isNodeEligible, proxyHealth, proxyHealthRoutes } from './proxy-health.ts'

const now = new Date('2026-11-21T12:00:00Z')
const then = '2026-11-21T11:58:00.000Z'
const health = (sync: { lastSync: Date | undefined; pendingMs: number }) =>
  proxyHealth(sync, { overdueMs: 60_000, now })

describe('proxyHealth()', () => {
  test('is healthy, at this moment, while it starts', () => {
    const currentTime = now.toISOString()
    expect(health({ lastSync: undefined, pendingMs: 90_000 })).toEqual({
      lastUpdated: currentTime,
      currentTime,
      healthy: true,
    })
  })

  test.each([
    ['nothing waits', 0, true],
    ['a change waits for less than two sync periods', 59_999, true],
    ['a change waits for two sync periods', 60_000, false],
  ])('says what kube-proxy says while %s', (_, pendingMs, healthy) => {
    const family = { lastUpdated: then, healthy }
    expect(health({ lastSync: new Date(then), pendingMs })).toEqual({
      lastUpdated: healthy ? now.toISOString() : then,
      currentTime: now.toISOString(),
      healthy,
      status: { IPv4: family, IPv6: family },
    })
  })
})

test.each([
  ['is fine', {}, {}, true],
  ['has another taint', {}, { taints: [{ key: 'dedicated', effect: 'NoSchedule' }] }, true],
  ['goes by the autoscaler', {}, { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }] }, false],
  ['is being deleted', { deletionTimestamp: '2026-11-21T12:00:00Z' }, {}, false],
])('isNodeEligible() judges a node that %s', (_, metadata, spec, eligible) => {
  const node = parseNode({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n', ...metadata }, spec })
  expect(isNodeEligible(node)).toBe(eligible)
})

test.each([
  ['healthz', true, true, 200],
  ['healthz', true, false, 503],
  ['healthz', false, true, 503],
  ['livez', true, false, 200],
  ['livez', false, true, 503],
] as const)(
  'proxyHealthRoutes() answers /%s with healthy %s and a node that is eligible %s',
  async (route, healthy, eligible, status) => {
    const answers: string[] = []
    const routes = proxyHealthRoutes({
      health: () => health({ lastSync: new Date(then), pendingMs: healthy ? 0 : 90_000 }),
      nodeEligible: () => eligible,
      onAnswer: (of, code) => answers.push(`${of} ${code}`),
    })
    const answer = await routes[`GET /${route}`]?.({ params: {}, query: new URLSearchParams(), body: undefined })
    expect(answer).toMatchObject({ status, json: { healthy } })
    expect(answer && 'json' in answer && Object.keys(answer.json as object)).toEqual([
      'lastUpdated',
      'currentTime',
      ...(route === 'healthz' ? ['nodeEligible'] : []),
      'healthy',
      'status',
    ])
    expect(answers).toEqual([`${route} ${status}`])
  },
)
