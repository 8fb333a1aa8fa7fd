import { describe, expect, it } from 'vitest'
import { SharedMap } from '../base/shared-map.ts'
import type { Service } from '../model/service.ts'
import { formatCidr, parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { compileServices, defaultProxySettings, type CompiledServices } from './compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from './example-objects.ts'
import { frontendKey, type Verdict } from './frontends.ts'

const options = { nodeName: 'this-node', settings: defaultProxySettings }
const here = (address: string) => ({ address, nodeName: 'this-node' })

function verdictText(verdict: Verdict | undefined): string {
  if (verdict?.kind !== 'balance') return verdict?.kind ?? '-'
  return verdict.slots.map((slot) => `${slot.ip}:${slot.port}`).join(' ')
}

/** One line per frontend: kind, key, verdict, verdict outside, masquerade. */
function lines(compiled: CompiledServices): string[] {
  return [...compiled.services.values()]
    .flatMap((service) => service.frontends)
    .map((f) => [f.kind, frontendKey(f), verdictText(f.verdict), verdictText(f.outside), f.masquerade].join(' | '))
    .sort()
}

const compileOne = (service: Service, ...slices: ReturnType<typeof exampleSlice>[]) =>
  compileServices(exampleSnapshot([[service, ...slices]]), options)

describe('compileServices', () => {
  it('makes a frontend per cluster IP and node port in each family, each with its own endpoints', () => {
    const service = exampleService('web', {
      clusterIPs: ['10.96.0.5', 'fd00:96::5'],
      ports: ['http=80:30080/tcp', 'dns=53/udp'],
    })
    const compiled = compileOne(
      service,
      exampleSlice(service, ['10.0.0.2', '10.0.0.1'], { ports: ['http=8080/tcp', 'dns=5353/udp'] }),
      exampleSlice(service, ['fd00::1'], { name: 'web-6', ports: ['http=8080/tcp'] }),
    )
    expect(lines(compiled)).toEqual([
      'cluster-ip | 10.96.0.5 53/UDP | 10.0.0.1:5353 10.0.0.2:5353 | - | unless-pod',
      'cluster-ip | 10.96.0.5 80/TCP | 10.0.0.1:8080 10.0.0.2:8080 | - | unless-pod',
      'cluster-ip | fd00:96::5 53/UDP | reject | - | unless-pod',
      'cluster-ip | fd00:96::5 80/TCP | fd00::1:8080 | - | unless-pod',
      'node-port | node-port-4 30080/TCP | 10.0.0.1:8080 10.0.0.2:8080 | - | always',
      'node-port | node-port-6 30080/TCP | fd00::1:8080 | - | always',
    ])
  })

  it('gives policy Local its own view from outside, and drops where only this node has nothing', () => {
    const ingress = [{ ip: parseIp('1.2.3.4'), ipMode: 'VIP' as const }]
    const fields = { type: 'LoadBalancer', externalTrafficPolicy: 'Local', loadBalancerIngress: ingress } as const
    const service = exampleService('web', { ...fields, externalIPs: ['192.0.2.9'], ports: ['80:30080/tcp'] })
    expect(lines(compileOne(service, exampleSlice(service, [here('10.0.0.1'), '10.0.2.1'])))).toEqual([
      'cluster-ip | 10.96.0.1 80/TCP | 10.0.0.1:8080 10.0.2.1:8080 | - | unless-pod',
      'external-ip | 192.0.2.9 80/TCP | 10.0.0.1:8080 10.0.2.1:8080 | 10.0.0.1:8080 | node-only',
      'load-balancer-ip | 1.2.3.4 80/TCP | 10.0.0.1:8080 10.0.2.1:8080 | 10.0.0.1:8080 | node-only',
      'node-port | node-port-4 30080/TCP | 10.0.0.1:8080 10.0.2.1:8080 | 10.0.0.1:8080 | node-only',
    ])
    const elsewhere = compileOne(service, exampleSlice(service, ['10.0.2.1']))
    expect(lines(elsewhere)[3]).toBe('node-port | node-port-4 30080/TCP | 10.0.2.1:8080 | drop | node-only')
  })

  it.each([
    { name: 'with an endpoint here', endpoints: [here('10.0.0.1'), '10.0.2.1'], verdict: '10.0.0.1:8080' },
    { name: 'with endpoints elsewhere only', endpoints: ['10.0.2.1'], verdict: 'drop' },
    { name: 'without any', endpoints: [], verdict: 'reject' },
  ])('narrows the cluster IP under internalTrafficPolicy Local, $name', ({ endpoints, verdict }) => {
    const service = exampleService('web', { internalTrafficPolicy: 'Local' })
    const compiled = compileOne(service, exampleSlice(service, endpoints))
    expect(lines(compiled)).toEqual([`cluster-ip | 10.96.0.1 80/TCP | ${verdict} | - | unless-pod`])
  })

  it.each([
    ['headless', { headless: true, clusterIPs: [], externalIPs: ['192.0.2.9'] }],
    ['ExternalName', { type: 'ExternalName' }],
    ['without an address', { clusterIPs: [] }],
    ['for another proxy', { labels: { 'service.kubernetes.io/service-proxy-name': '' } }],
  ] as const)('leaves a Service alone that is %s', (_name, fields) => {
    expect(lines(compileOne(exampleService('web', fields)))).toEqual([])
  })

  describe('with source ranges', () => {
    const guarded = (fields: { clusterIPs?: string[]; annotations?: Record<string, string> } = {}) =>
      exampleService('web', {
        type: 'LoadBalancer',
        ports: ['80:30080/tcp'],
        externalIPs: ['192.0.2.9'],
        loadBalancerIngress: [{ ip: parseIp('1.2.3.4'), ipMode: 'VIP' }],
        loadBalancerSourceRanges: [parseCidr('203.0.113.0/25'), parseCidr('192.168.0.0/24')],
        ...fields,
      })
    const ranges = (compiled: CompiledServices) =>
      [...compiled.services.values()]
        .flatMap((service) => service.frontends)
        .map((f) => `${f.kind} ${f.sourceRanges?.map(formatCidr).join(' ') ?? 'all'}`)

    it('guards load balancer IPs, and no other address', () => {
      expect(ranges(compileOne(guarded()))).toEqual([
        'cluster-ip all',
        'external-ip all',
        'load-balancer-ip 203.0.113.0/25 192.168.0.0/24',
        'node-port all',
      ])
    })

    it('guards node ports and externalIPs too where the annotation says so', () => {
      const compiled = compileOne(guarded({ annotations: { 'fairlead.dev/source-ranges': 'all' } }))
      expect(ranges(compiled).filter((line) => line.endsWith(' all'))).toEqual(['cluster-ip all'])
    })

    it('lets connections of the node to its own load balancer IP in where the node may come', () => {
      const node = { name: 'this-node', labels: {}, addresses: [parseIp('192.168.0.2')], podCIDRs: [] }
      const snapshot = { ...exampleSnapshot([[guarded()]]), nodes: SharedMap.from([['this-node', node]]) }
      expect(ranges(compileServices(snapshot, options))[2]).toBe(
        'load-balancer-ip 203.0.113.0/25 192.168.0.0/24 1.2.3.4/32',
      )
    })

    it('says which family is open to all for want of a range', () => {
      const compiled = compileOne(guarded({ clusterIPs: ['10.96.0.1', 'fd00:96::1'] }))
      expect(compiled.problems.get('default/web')).toEqual([
        'default/web: spec.loadBalancerSourceRanges has no IPv6 range: its IPv6 addresses are open to all',
      ])
    })
  })

  it.each([
    [{}, 'default/web:http/tcp endpoint'],
    [{ 'fairlead.dev/affinity-scope': 'service' }, 'default/web address'],
  ])('groups the frontends of a port for affinity, or all of the Service (%j)', (annotations, expected) => {
    const sessionAffinity = { kind: 'ClientIP', timeoutSeconds: 60 } as const
    const service = exampleService('web', {
      ports: ['http=80:30080/tcp', 'admin=81/tcp'],
      sessionAffinity,
      annotations,
    })
    const frontends = compileOne(service).services.get('default/web')?.frontends ?? []
    const http = frontends.filter(({ portName }) => portName === 'http')
    expect(http.map((f) => `${f.affinity?.group} ${f.affinity?.remembers}`)).toEqual([expected, expected])
  })

  it('takes an unknown value of an annotation for the default and says so', () => {
    const compiled = compileOne(exampleService('web', { annotations: { 'fairlead.dev/algorithm': 'lru' } }))
    expect(compiled.services.get('default/web')?.frontends[0]?.algorithm).toBe('random')
    expect(compiled.problems.get('default/web')).toEqual([
      'default/web: metadata.annotations fairlead.dev/algorithm is "lru" (expected random or maglev or round-robin; taken for random)',
    ])
  })

  it('counts this node’s ready pods once for a health check node port, whatever the number of ports', () => {
    const service = exampleService('web', {
      type: 'LoadBalancer',
      externalTrafficPolicy: 'Local',
      healthCheckNodePort: 30999 as Port,
      ports: ['http=80/tcp', 'https=443/tcp'],
    })
    const ports = ['http=8080/tcp', 'https=8443/tcp']
    const slice = exampleSlice(service, [here('10.0.0.1'), here('10.0.0.2'), '10.0.2.1'], { ports })
    expect(compileOne(service, slice).services.get('default/web')?.health).toEqual({
      nodePort: 30999,
      localEndpoints: { 4: 2, 6: 0 },
    })
  })

  it('leaves addresses alone in a family that the Service has no cluster IP of, and says so', () => {
    const compiled = compileOne(exampleService('web', { externalIPs: ['192.0.2.9', '2001:db8::9'] }))
    expect(lines(compiled).map((line) => line.split(' | ')[1])).toEqual(['10.96.0.1 80/TCP', '192.0.2.9 80/TCP'])
    expect(compiled.problems.get('default/web')).toEqual([
      'default/web: 2001:db8::9 is not served: the Service has no cluster IP of that family',
    ])
  })

  it('leaves externalIPs alone where they are switched off, and says so', () => {
    const service = exampleService('web', { externalIPs: ['192.0.2.9'] })
    const settings = { ...defaultProxySettings, externalIPs: false }
    const compiled = compileServices(exampleSnapshot([[service]]), { ...options, settings })
    expect(lines(compiled)).toHaveLength(1)
    expect(compiled.problems.get('default/web')).toEqual([
      'default/web: spec.externalIPs 192.0.2.9 are not served (externalIPs are switched off)',
    ])
  })

  it('uses the zone of this node’s Node object', () => {
    const service = exampleService('web')
    const zoned = (address: string, zone: string) => ({ address, hints: { zones: [zone], nodes: [] } })
    const snapshot = exampleSnapshot([
      [service, exampleSlice(service, [zoned('10.0.0.1', 'zone-a'), zoned('10.0.0.2', 'zone-b')])],
    ])
    const node = {
      name: 'this-node',
      labels: { 'topology.kubernetes.io/zone': 'zone-b' },
      addresses: [],
      podCIDRs: [],
    }
    const first = compileServices(snapshot, options)
    expect(lines(first)).toEqual(['cluster-ip | 10.96.0.1 80/TCP | 10.0.0.1:8080 10.0.0.2:8080 | - | unless-pod'])
    const known = { ...snapshot, nodes: SharedMap.from([['this-node', node]]) }
    const second = compileServices(known, { ...options, previous: first })
    expect(lines(second)).toEqual(['cluster-ip | 10.96.0.1 80/TCP | 10.0.0.2:8080 | - | unless-pod'])
  })
})

describe('compileServices with two Services that want the same', () => {
  const older = exampleService('z-older', {
    clusterIPs: ['10.96.0.5'],
    ports: ['80:30080/tcp'],
    creationTimestamp: '2026-01-01T00:00:00Z',
  })
  const younger = exampleService('a-younger', {
    clusterIPs: ['10.96.0.5'],
    ports: ['http=80:30080/tcp', 'admin=81/tcp'],
    creationTimestamp: '2026-01-01T00:00:01Z',
  })
  const owners = (compiled: CompiledServices) =>
    [...compiled.services].flatMap(([key, s]) => s.frontends.map((f) => `${frontendKey(f)} ${key}`)).sort()

  it('lets the older keep it, reports the other’s problem, and serves the rest of it', () => {
    const compiled = compileServices(exampleSnapshot([[younger], [older]]), options)
    expect(owners(compiled)).toEqual([
      '10.96.0.5 80/TCP default/z-older',
      '10.96.0.5 81/TCP default/a-younger',
      'node-port-4 30080/TCP default/z-older',
    ])
    expect([...compiled.problems]).toEqual([
      [
        'default/a-younger',
        [
          'default/a-younger: spec.clusterIP 10.96.0.5 port 80/TCP is already used by default/z-older (the older Service keeps it)',
          'default/a-younger: spec.ports nodePort 30080/TCP is already used by default/z-older (the older Service keeps it)',
        ],
      ],
    ])
  })

  it('decides alike whichever came first', () => {
    const first = compileServices(exampleSnapshot([[younger]]), options)
    const second = compileServices(exampleSnapshot([[younger], [older]]), { ...options, previous: first })
    expect(owners(second)).toContain('10.96.0.5 80/TCP default/z-older')
    expect(second.problems.size).toBe(1)
  })

  it('hands it over when the owner goes', () => {
    const first = compileServices(exampleSnapshot([[younger], [older]]), options)
    const second = compileServices(exampleSnapshot([[younger]]), { ...options, previous: first })
    expect(owners(second)).toEqual([
      '10.96.0.5 80/TCP default/a-younger',
      '10.96.0.5 81/TCP default/a-younger',
      'node-port-4 30080/TCP default/a-younger',
    ])
    expect(second.problems.size).toBe(0)
  })

  it('decides by name where the times are equal or missing', () => {
    const a = exampleService('a')
    const b = exampleService('b')
    const compiled = compileServices(exampleSnapshot([[b], [a]]), options)
    expect(owners(compiled)).toEqual(['10.96.0.1 80/TCP default/a'])
  })
})

describe('compileServices after a change', () => {
  const services = Array.from({ length: 50 }, (_, i) =>
    exampleService(`s${i}`, { clusterIPs: [`10.96.1.${i}`], ports: ['80/tcp'] }),
  )
  const snapshot = exampleSnapshot(services.map((s) => [s, exampleSlice(s, ['10.0.0.1', '10.0.0.2', '10.0.0.3'])]))
  const first = compileServices(snapshot, options)

  it('keeps the objects of all Services that did not change', () => {
    const changed = {
      ...snapshot,
      slices: snapshot.slices.with([
        ['default/s7', [exampleSlice(services[7]!, ['10.0.0.1', '10.0.0.9', '10.0.0.3'])]],
      ]),
    }
    const second = compileServices(changed, { ...options, previous: first })
    expect([...SharedMap.changedKeys(first.services, second.services)]).toEqual(['default/s7'])
    const verdict = second.services.get('default/s7')?.frontends[0]?.verdict
    expect(verdictText(verdict)).toBe('10.0.0.1:8080 10.0.0.9:8080 10.0.0.3:8080')
  })

  it('keeps even the changed Service’s object when its frontends are the same', () => {
    const relabelled = {
      ...snapshot,
      services: snapshot.services.with([['default/s7', { ...services[7]!, labels: { a: 'b' } }]]),
    }
    const second = compileServices(relabelled, { ...options, previous: first })
    expect(SharedMap.changedKeys(first.services, second.services).size).toBe(0)
  })

  it('removes a Service that is gone', () => {
    const without = { ...snapshot, services: snapshot.services.with([], ['default/s7']) }
    const second = compileServices(without, { ...options, previous: first })
    expect(second.services.has('default/s7')).toBe(false)
    expect(second.claims.size).toBe(49)
  })

  it('puts endpoints into the slots that the kernel is said to have', () => {
    const verdict = first.services.get('default/s1')?.frontends[0]?.verdict
    const recalled = () => (verdict?.kind === 'balance' ? [...verdict.slots].reverse() : undefined)
    const again = compileServices(snapshot, { ...options, recalled })
    expect(verdictText(again.services.get('default/s1')?.frontends[0]?.verdict)).toBe(
      '10.0.0.3:8080 10.0.0.2:8080 10.0.0.1:8080',
    )
  })

  it('leaves addresses to the node that it answers on itself, and says so', () => {
    const dns = exampleService('dns', { clusterIPs: ['10.96.0.10'], ports: ['53:30053/udp'] })
    const web = exampleService('web', { clusterIPs: ['10.96.0.5'], ports: ['80/tcp'] })
    const snapshot = exampleSnapshot([[dns], [web]])
    const first = compileServices(snapshot, options)
    expect(lines(first)).toHaveLength(3)
    const settings = { ...defaultProxySettings, ownAddresses: [parseIp('10.96.0.10')] }
    const second = compileServices(snapshot, { ...options, settings, previous: first })
    expect(lines(second)).toEqual([
      'cluster-ip | 10.96.0.5 80/TCP | reject | - | unless-pod',
      'node-port | node-port-4 30053/UDP | reject | - | always',
    ])
    expect([...second.problems]).toEqual([
      [
        'default/dns',
        [
          'default/dns: spec.clusterIP 10.96.0.10 port 53/UDP is an address that this node answers on itself (expected another one)',
        ],
      ],
    ])
    const third = compileServices(snapshot, { ...options, previous: second })
    expect(lines(third)).toEqual(lines(first))
    expect(third.problems.size).toBe(0)
  })
})
