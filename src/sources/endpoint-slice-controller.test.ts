import { assert, array, boolean, constantFrom, property, record } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SharedMap } from '../base/shared-map.ts'
import { objectKey } from '../model/object-key.ts'
import { parsePod } from '../model/parse-pod.ts'
import { parseService } from '../model/parse-service.ts'
import type { Pod } from '../model/pod.ts'
import type { Service } from '../model/service.ts'
import { EndpointSliceController } from './endpoint-slice-controller.ts'

const service = (spec: object, name = 'web') =>
  parseService({
    metadata: { name, namespace: 'shop' },
    spec: { selector: { app: 'web' }, ports: [{ port: 80 }], ...spec },
  })
const pod = (name: string, ip: string | undefined, fields: Partial<Pod> = {}): Pod => ({
  ...parsePod({
    metadata: { name, namespace: 'shop', labels: { app: 'web' } },
    status: { phase: 'Running', ...(ip === undefined ? {} : { podIP: ip }) },
  }),
  ...fields,
})
const mapOf = <V extends { namespace: string; name: string }>(...objects: V[]) =>
  SharedMap.from(objects.map((object) => [objectKey(object), object] as const))
const slicesOf = (service: Service, ...pods: Pod[]) =>
  new EndpointSliceController().update(mapOf(service), mapOf(...pods)).get(objectKey(service)) ?? []
const dual = ['10.1.0.1', 'fd00::1'] as unknown as Pod['podIPs']

describe('EndpointSliceController', () => {
  test('makes a slice of the pods that carry all labels of the selector', () => {
    const pods = [pod('a', '10.1.0.1', { nodeName: 'n1' }), pod('b', '10.1.0.2', { labels: { app: 'other' } })]
    expect(slicesOf(service({}), ...pods)).toEqual([
      {
        namespace: 'shop',
        name: 'web-ipv4',
        serviceName: 'web',
        family: 4,
        ports: [{ name: '', protocol: 'tcp', port: 80 }],
        endpoints: [
          {
            address: '10.1.0.1',
            hostname: undefined,
            nodeName: 'n1',
            zone: undefined,
            ready: true,
            serving: true,
            terminating: false,
            hints: { zones: [], nodes: [] },
            targetPod: 'a',
          },
        ],
      },
    ])
  })

  test.each<[string, Partial<Pod>, object, object | undefined]>([
    ['a pod that is not ready', { ready: false }, {}, { ready: false, serving: false }],
    [
      'a pod that is not ready, published all the same',
      { ready: false },
      { publishNotReadyAddresses: true },
      { ready: true, serving: false },
    ],
    ['a terminating pod', { terminating: true }, {}, { ready: false, serving: true, terminating: true }],
    ['a pod that is only pending', { phase: 'Pending' }, {}, { ready: false }],
    ['a finished pod', { phase: 'Succeeded' }, {}, undefined],
    ['a pod without an address', { podIPs: [] }, {}, undefined],
    ['a pod of another namespace', { namespace: 'else' }, {}, undefined],
    ['a pod of the host network', { hostNetwork: true }, {}, { address: '10.1.0.1' }],
    ['a named pod of this Service', { hostname: 'db-0', subdomain: 'web' }, {}, { hostname: 'db-0' }],
    ['a named pod of another Service', { hostname: 'db-0', subdomain: 'db' }, {}, { hostname: undefined }],
  ])('%s', (_, fields, spec, expected) => {
    const endpoint = slicesOf(service(spec), pod('a', '10.1.0.1', fields))[0]?.endpoints[0]
    if (expected) expect(endpoint).toMatchObject(expected)
    else expect(endpoint).toBeUndefined()
  })

  test.each<[object, number[]]>([
    [{}, [4]],
    [{ clusterIP: 'fd00:1::1' }, [6]],
    [{ clusterIPs: ['10.0.0.1', 'fd00:1::1'] }, [4, 6]],
    [{ clusterIP: 'None', ipFamilyPolicy: 'PreferDualStack' }, [4, 6]],
  ])('gives %j slices of the families %j', (spec, families) => {
    expect(slicesOf(service(spec), pod('a', undefined, { podIPs: dual })).map((slice) => slice.family)).toEqual(
      families,
    )
  })

  test('looks named target ports up in each pod, and leaves them out where they are missing', () => {
    const ports = (port: number) => [
      { name: 'http', protocol: 'tcp' as const, port: port as Pod['ports'][number]['port'] },
    ]
    const slices = slicesOf(
      service({ ports: [{ port: 80, targetPort: 'http' }] }),
      pod('a', '10.1.0.1', { ports: ports(8080) }),
      pod('b', '10.1.0.2', { ports: ports(9090) }),
      pod('c', '10.1.0.3'),
    )
    expect(slices.map((s) => [s.ports.map((p) => p.port), s.endpoints.map((e) => e.address)])).toEqual([
      [[8080], ['10.1.0.1']],
      [[9090], ['10.1.0.2']],
      [[], ['10.1.0.3']],
    ])
  })

  test('gives an endpoint the weight that its pod asks for', () => {
    const weightsOf = (annotations: Pod['annotations']) =>
      slicesOf(service({}), pod('a', '10.1.0.1', { annotations })).map((s) => s.endpoints.map((e) => e.weight))
    expect(weightsOf({ 'fairlead.dev/weight': '0' })).toEqual([[0]])
    expect(weightsOf({})).toEqual([[undefined]])
  })

  test('puts at most 100 endpoints into a slice, and touches one slice when one pod goes or comes', () => {
    const pods = Array.from({ length: 250 }, (_, i) => pod(`p${String(i).padStart(3, '0')}`, `10.1.1.${i}`))
    const services = mapOf(service({}))
    const controller = new EndpointSliceController()
    const before = controller.update(services, mapOf(...pods)).get('shop/web') ?? []
    expect(before.map((slice) => slice.endpoints.length)).toEqual([100, 100, 50])
    const gone = controller.update(services, mapOf(...pods.slice(1))).get('shop/web') ?? []
    expect(gone.map((slice, i) => slice === before[i])).toEqual([false, true, true])
    const back = controller.update(services, mapOf(...pods)).get('shop/web') ?? []
    expect(back.map((slice, i) => slice === gone[i])).toEqual([false, true, true])
    expect(back[0]?.endpoints).toHaveLength(100)
  })

  test('leaves all other Services as they were when a pod changes', () => {
    const services = mapOf(service({}), service({ selector: { app: 'db' } }, 'db'))
    const db = pod('db', '10.1.0.9', { labels: { app: 'db' } })
    const controller = new EndpointSliceController()
    const before = controller.update(services, mapOf(pod('a', '10.1.0.1'), db))
    const after = controller.update(services, mapOf(pod('a', '10.1.0.1', { ready: false }), db))
    expect([...SharedMap.changedKeys(before, after)]).toEqual(['shop/web'])
    // A change that no endpoint shows changes nothing.
    const same = controller.update(services, mapOf(pod('a', '10.1.0.1', { ready: false, annotations: { a: 'b' } }), db))
    expect(same).toBe(after)
  })

  test('update() by update gives the same endpoints as all at once', () => {
    const anyPod = record({
      name: constantFrom('a', 'b', 'c'),
      app: constantFrom('web', 'db'),
      tier: constantFrom('x', 'y'),
      ready: boolean(),
      present: boolean(),
    })
    const anySelector = constantFrom({ app: 'web' }, { app: 'web', tier: 'x' }, { tier: 'y' }, undefined)
    assert(
      property(array(record({ pod: anyPod, selector: anySelector })), (steps) => {
        const controller = new EndpointSliceController()
        let pods = SharedMap.empty<Pod>()
        let services = SharedMap.empty<Service>()
        for (const { pod: p, selector } of steps) {
          const value = pod(p.name, `10.1.0.${p.name.charCodeAt(0)}`, {
            labels: { app: p.app, tier: p.tier },
            ready: p.ready,
          })
          pods = p.present ? pods.with([[objectKey(value), value]]) : pods.with([], [objectKey(value)])
          services = services.with([['shop/web', service({ selector: selector ?? null })]])
          const flat = (c: EndpointSliceController) =>
            c
              .update(services, pods)
              .get('shop/web')
              ?.flatMap((s) => s.endpoints)
              .toSorted((a, b) => (a.address < b.address ? -1 : 1))
          expect(flat(controller)).toEqual(flat(new EndpointSliceController()))
        }
      }),
      { numRuns: 50 },
    )
  })
})
