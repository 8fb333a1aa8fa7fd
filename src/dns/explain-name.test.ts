import { describe, expect, test } from 'vitest'
import { parseName } from '../dns-message/name.ts'
import { explainName } from './explain-name.ts'
import { makePod, snapshotOf } from './testing.ts'

const snapshot = snapshotOf(
  {
    'shop/web': { ips: ['172.30.4.10'], ports: ['http/tcp/80'], endpoints: ['10.7.1.1', '10.7.1.2!'] },
    'shop/starting': { endpoints: ['db-0@10.7.1.3!'] },
    'shop/pay': { externalName: 'pay.example.com' },
    'data/db': { endpoints: ['db-0@10.7.1.21', '10.7.1.22'] },
  },
  { namespaces: ['empty'], pods: [makePod('shop/a', { ips: ['10.7.9.1'] })] },
)

function explain(text: string, pods: 'insecure' | 'verified' | 'disabled' = 'insecure'): string | undefined {
  const found = explainName(parseName(text), snapshot, { zone: parseName('cluster.local'), pods })
  return found && [found.object ?? '-', ...found.why].join(' | ')
}

describe('explainName()', () => {
  test.each([
    ['web.shop.svc.cluster.local', 'Service shop/web | cluster IP 172.30.4.10; 1 of 2 endpoints are ready'],
    [
      'db.shop.svc.cluster.local',
      '- | there is no Service "db" in namespace shop | a Service of this name is in: data',
    ],
    ['db.prod.svc.cluster.local', '- | there is no namespace "prod" | a Service of this name is in: data'],
    [
      'starting.shop.svc.cluster.local',
      'Service shop/starting | headless; 0 of 1 endpoints are ready | a headless Service without a ready endpoint does not exist in DNS (publishNotReadyAddresses would change that)',
    ],
    [
      '_https._tcp.web.shop.svc.cluster.local',
      'Service shop/web | cluster IP 172.30.4.10; 1 of 2 endpoints are ready | its named ports: _http._tcp',
    ],
    [
      'db-0.db.data.svc.cluster.local',
      'Service data/db | headless; 2 of 2 endpoints are ready | endpoint 10.7.1.21 is ready',
    ],
    [
      'db-9.db.data.svc.cluster.local',
      'Service data/db | headless; 2 of 2 endpoints are ready | no endpoint is called "db-9"',
    ],
    [
      '10-7-1-2.web.shop.svc.cluster.local',
      'Service shop/web | cluster IP 172.30.4.10; 1 of 2 endpoints are ready | endpoint 10.7.1.2 is not ready, so it has no name',
    ],
    ['pay.shop.svc.cluster.local', 'Service shop/pay | an ExternalName: leads to pay.example.com'],
    ['empty.svc.cluster.local', '- | the namespace empty exists, and has no records itself'],
    ['web.shop.srv.cluster.local', '- | below the zone stand svc and pod, not "srv"'],
    ['10-7-9-1.shop.pod.cluster.local', 'Pod shop/a | has the address 10.7.9.1'],
    ['www.example.com', undefined],
  ])('explainName() says of %s: %s', (name, expected) => {
    expect(explain(name)).toBe(expected)
  })

  test('explainName() names the setting that pods are named by', () => {
    expect(explain('10-7-9-2.shop.pod.cluster.local')).toMatch(/whoever has it \(dns\.pods: insecure\)/)
    expect(explain('10-7-9-2.shop.pod.cluster.local', 'verified')).toMatch(/no pod of namespace shop has 10\.7\.9\.2/)
    expect(explain('10-7-9-1.shop.pod.cluster.local', 'disabled')).toMatch(/names of pods are off/)
  })
})
