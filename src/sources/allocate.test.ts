import { assert, array, constantFrom, property, uniqueArray } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cidrContains, parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { objectKey } from '../model/object-key.ts'
import { parseService } from '../model/parse-service.ts'
import type { Service } from '../model/service.ts'
import { Allocator, missingAllocation, refusedNodePorts, type AllocatorOptions } from './allocate.ts'

const v4 = parseCidr('10.96.0.0/24')
const v6 = parseCidr('fd00:10:96::/112')
const service = (name: string, spec: object = {}) =>
  parseService({ metadata: { name, namespace: 'shop' }, spec: { ports: [{ port: 80 }], ...spec } })
const change = (service: Service) => [objectKey(service), service] as const

/** What the allocator makes of one Service. */
function give(allocator: Allocator, service: Service): Service {
  const given = allocator.update([change(service)]).services.get(objectKey(service))
  if (!given) throw new Error('not there')
  return given
}
const newAllocator = (options: Partial<AllocatorOptions> = {}) => new Allocator({ serviceCIDRs: [v4, v6], ...options })
const addressesOf = (allocator: Allocator, ...services: Service[]) =>
  Object.fromEntries(
    [...allocator.update(services.map(change)).services].map(([key, service]) => [key, service?.clusterIPs[0]]),
  )

describe('Allocator', () => {
  test.each<[object, number[]]>([
    [{}, [4]],
    [{ ipFamilies: ['IPv6'] }, [6]],
    [{ ipFamilyPolicy: 'PreferDualStack' }, [4, 6]],
    [{ ipFamilies: ['IPv6', 'IPv4'], ipFamilyPolicy: 'RequireDualStack' }, [6, 4]],
    [{ ipFamilies: ['IPv6'], ipFamilyPolicy: 'PreferDualStack' }, [6, 4]],
  ])('gives %j addresses of the families %j', (spec, families) => {
    const { clusterIPs } = give(newAllocator(), service('web', spec))
    expect(clusterIPs.map((ip) => (cidrContains(v4, ip) ? 4 : cidrContains(v6, ip) ? 6 : 0))).toEqual(families)
  })

  test.each([{ clusterIP: 'None' }, { clusterIP: '10.96.0.7' }, { type: 'ExternalName', externalName: 'a.example' }])(
    'leaves %j as it is',
    (spec) => {
      const web = service('web', spec)
      expect(give(newAllocator(), web)).toBe(web)
    },
  )

  test.each<[object, (number | 'given' | undefined)[], 'given' | undefined]>([
    [{ type: 'ClusterIP' }, [undefined], undefined],
    [{ type: 'NodePort' }, ['given'], undefined],
    [
      {
        type: 'NodePort',
        ports: [
          { name: 'a', port: 80, nodePort: 30_001 },
          { name: 'b', port: 81 },
        ],
      },
      [30_001, 'given'],
      undefined,
    ],
    [{ type: 'LoadBalancer' }, ['given'], undefined],
    [{ type: 'LoadBalancer', allocateLoadBalancerNodePorts: false }, [undefined], undefined],
    [{ type: 'LoadBalancer', externalTrafficPolicy: 'Local' }, ['given'], 'given'],
  ])('gives %j the node ports %j', (spec, expected, health) => {
    const allocated = give(newAllocator(), service('web', { clusterIP: '10.96.0.7', ...spec }))
    const show = (port: number | undefined) =>
      port === undefined || port === 30_001 ? port : port >= 30_000 && port <= 32_767 ? 'given' : port
    expect(allocated.ports.map((port) => show(port.nodePort))).toEqual(expected)
    expect(show(allocated.healthCheckNodePort)).toBe(health)
  })

  test.each<[object, RegExp]>([
    [
      { type: 'NodePort' },
      /^spec\.ports\[0\]\.nodePort: 22 is not in the range of node ports \(it has 3\d{4} instead\)$/,
    ],
    [{ type: 'LoadBalancer', allocateLoadBalancerNodePorts: false }, /22 is not in .*\(it has none instead\)$/],
  ])('does not give %j a node port that the machine needs itself', (spec, reason) => {
    const allocator = newAllocator()
    const asked = service('web', { ...spec, clusterIP: '10.96.0.7', ports: [{ port: 80, nodePort: 22 }] })
    const given = give(allocator, asked)
    expect(given.ports[0]?.nodePort).not.toBe(22)
    expect(refusedNodePorts(asked, given)).toMatch(reason)
    expect(give(allocator, asked)).toBe(given)
  })

  test('gives the same to the same set, in whatever order it comes', () => {
    const names = uniqueArray(constantFrom(...Array.from({ length: 60 }, (_, i) => `s${i}`)), { minLength: 1 })
    assert(
      property(names, (names) => {
        const there = addressesOf(newAllocator(), ...names.map((name) => service(name)))
        const back = addressesOf(newAllocator(), ...names.toReversed().map((name) => service(name)))
        expect(back).toEqual(there)
        expect(new Set(Object.values(there)).size).toBe(names.length)
      }),
    )
  })

  test('never moves a Service when others come and go, and never gives one address twice', () => {
    const names = Array.from({ length: 30 }, (_, i) => `s${i}`)
    const steps = array(uniqueArray(constantFrom(...names), { maxLength: 8 }), { maxLength: 20 })
    assert(
      property(steps, (steps) => {
        const allocator = newAllocator({ serviceCIDRs: [parseCidr('10.96.0.0/27')] })
        const living = new Map<string, string | undefined>()
        for (const step of steps) {
          const changes = step.map((name) => {
            const web = service(name)
            return living.has(objectKey(web)) ? ([objectKey(web), undefined] as const) : change(web)
          })
          const { services, moved } = allocator.update(changes)
          expect(moved).toEqual([])
          expect([...services.keys()].sort()).toEqual(changes.map(([key]) => key).sort())
          for (const [key, service] of services) {
            if (service) living.set(key, service.clusterIPs[0])
            else living.delete(key)
          }
          const given = [...living.values()].filter((ip) => ip !== undefined)
          expect(new Set(given).size).toBe(given.length)
        }
      }),
    )
  })

  test('never gives the first, the network, the last or a reserved address, and says when none is left', () => {
    const allocator = newAllocator({ serviceCIDRs: [parseCidr('10.96.0.0/29')], reserved: [parseIp('10.96.0.5')] })
    const services = Array.from({ length: 5 }, (_, i) => service(`s${i}`))
    const allocation = allocator.update(services.map(change)).services
    const given = [...allocation.values()].flatMap((service) => service?.clusterIPs ?? [])
    expect(given.sort()).toEqual(['10.96.0.2', '10.96.0.3', '10.96.0.4', '10.96.0.6'])
    const reasons = [...allocation.values()]
      .map((service) => service && missingAllocation(service))
      .filter((r) => r !== undefined)
    expect(reasons).toEqual(['shop/s4 has no cluster IP: none is free in the service networks'])
  })

  test('never gives an address that another Service of the set chose by hand', () => {
    const [ip] = give(newAllocator(), service('web')).clusterIPs
    const given = addressesOf(newAllocator(), service('web'), service('other', { clusterIP: ip }))
    expect(given['shop/other']).toBe(ip)
    expect(given['shop/web']).not.toBe(ip)
  })

  test('moves a Service when another comes that chose its address by hand, and says so', () => {
    const allocator = newAllocator()
    const [ip] = give(allocator, service('web')).clusterIPs
    const { services, moved } = allocator.update([change(service('other', { clusterIP: ip }))])
    expect(moved).toEqual(['shop/web'])
    expect(services.get('shop/web')?.clusterIPs[0]).not.toBe(ip)
  })

  test('keeps what a Service has when another part of it changes', () => {
    const allocator = newAllocator()
    const before = give(allocator, service('web', { type: 'NodePort' }))
    const after = give(
      allocator,
      service('web', {
        type: 'NodePort',
        ports: [
          { name: 'a', port: 80 },
          { name: 'b', port: 81 },
        ],
      }),
    )
    expect(after.clusterIPs).toEqual(before.clusterIPs)
    expect(after.ports[0]?.nodePort).toBe(before.ports[0]?.nodePort)
  })

  test('leaves the low addresses to those who choose by hand', () => {
    for (let i = 0; i < 50; i++) {
      const [ip] = give(newAllocator(), service(`s${i}`)).clusterIPs
      expect(Number(ip?.split('.')[3])).toBeGreaterThanOrEqual(16)
    }
  })
})
