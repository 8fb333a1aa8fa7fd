import { describe, expect, test } from 'vitest'
import type { Pod } from '../model/pod.ts'
import type { Service } from '../model/service.ts'
import { parseIp } from '../net/ip-address.ts'
import { describeContainers } from './container-objects.ts'
import type { Container } from './container.ts'

let created = 0

function container(name: string, labels: Record<string, string>, fields: Partial<Container> = {}): Container {
  return {
    id: `${name}0123456789abcdef`,
    name,
    created: `2026-01-01T00:00:0${created++}Z`,
    labels,
    exposed: [],
    state: 'running',
    health: 'none',
    networkMode: 'bridge',
    networks: new Map([['bridge', [parseIp('172.17.0.2')]]]),
    stopSignal: 15,
    stopTimeout: 10,
    ...fields,
  }
}

function describeAll(...containers: readonly Container[]) {
  const { objects, problems } = describeContainers(
    containers.map((one) => ({ container: one, terminating: false })),
    { nodeName: 'node-1' },
  )
  const pods = objects.flatMap((object): Pod[] => (object.kind === 'Pod' ? [object.value] : []))
  const services = objects.flatMap((object): Service[] => (object.kind === 'Service' ? [object.value] : []))
  return { pods, services, problems }
}

const web = { 'fairlead.service': 'web', 'fairlead.port': '80:8080' }

describe('describeContainers', () => {
  test('describeContainers() makes a Pod and the Service that selects it', () => {
    const labels = { ...web, 'fairlead.weight': '3', app: 'shop', 'org.label/odd value': 'x' }
    const { pods, services, problems } = describeAll(container('shop_web_1', labels))
    expect(problems).toEqual([])
    expect(pods).toEqual([
      {
        namespace: 'default',
        name: 'shop-web-1',
        labels: { app: 'shop', 'fairlead.dev/service': 'web' },
        annotations: { 'fairlead.dev/weight': '3' },
        nodeName: 'node-1',
        hostname: 'shop-web-1',
        subdomain: 'web',
        hostNetwork: false,
        podIPs: ['172.17.0.2'],
        phase: 'Running',
        ready: true,
        terminating: false,
        ports: [{ name: 'tcp-80', protocol: 'tcp', port: 8080 }],
      },
    ])
    expect(services).toMatchObject([
      {
        name: 'web',
        selector: { 'fairlead.dev/service': 'web' },
        ports: [{ name: 'tcp-80', port: 80, targetPort: 'tcp-80' }],
        ipFamilies: [4],
      },
    ])
  })

  test.each([
    [{ health: 'starting' }, false],
    [{ health: 'unhealthy' }, false],
    [{ health: 'healthy' }, true],
    [{ state: 'paused' }, false],
  ] as const)('describeContainers() has %o as ready: %s', (fields, ready) => {
    expect(describeAll(container('a', web, fields)).pods).toMatchObject([{ ready }])
  })

  test('describeContainers() keeps the Service of a stopped container, without a Pod', () => {
    const { pods, services } = describeAll(container('a', web, { state: 'stopped', networks: new Map() }))
    expect(pods).toEqual([])
    expect(services).toMatchObject([{ name: 'web' }])
  })

  test('describeContainers() lets each container have another port, and the oldest decide what is one for all', () => {
    const { pods, services, problems } = describeAll(
      container('a', { ...web, 'fairlead.cluster-ip': '10.96.0.80' }),
      container('b', { ...web, 'fairlead.port': '80:9090,81', 'fairlead.cluster-ip': '10.96.0.81' }),
    )
    expect(pods.map(({ ports }) => ports.map(({ port }) => port))).toEqual([[8080], [9090, 81]])
    expect(services).toMatchObject([{ clusterIPs: ['10.96.0.80'], ports: [{ port: 80 }, { port: 81 }] }])
    expect(problems).toEqual([
      {
        container: 'b',
        path: 'fairlead.cluster-ip',
        reason: '"10.96.0.81" is not what an older container of the Service says ("10.96.0.80", which counts)',
      },
    ])
  })

  test('describeContainers() takes the network and the families that containers have', () => {
    const networks = new Map([
      ['shop_back', [parseIp('172.18.0.2'), parseIp('fd00::2')]],
      ['shop_front', [parseIp('172.19.0.2')]],
    ])
    const project = { ...web, 'com.docker.compose.project': 'shop' }
    const both = describeAll(container('a', project, { networks }))
    expect(both.pods[0]?.podIPs).toEqual(['172.18.0.2', 'fd00::2'])
    expect(both.services).toMatchObject([{ ipFamilies: [4, 6], ipFamilyPolicy: 'PreferDualStack' }])
    const front = describeAll(container('a', { ...project, 'fairlead.network': 'front' }, { networks }))
    expect(front.pods[0]?.podIPs).toEqual(['172.19.0.2'])
    const none = describeAll(container('a', { ...project, 'fairlead.network': 'side' }, { networks }))
    expect(none.problems).toMatchObject([
      {
        path: 'fairlead.network',
        reason: '"side" is no network that it has an address in (it has: shop_back, shop_front)',
      },
    ])
  })

  test('describeContainers() says of a container in the network of the host that it needs an address', () => {
    const host = { networks: new Map(), networkMode: 'host' }
    expect(describeAll(container('a', web, host)).problems).toMatchObject([
      { container: 'a', reason: expect.stringContaining('has no address of its own in network host') as string },
    ])
    const given = describeAll(container('a', { ...web, 'fairlead.address': '192.0.2.2' }, host))
    expect(given).toMatchObject({ problems: [], pods: [{ podIPs: ['192.0.2.2'], hostNetwork: true }] })
  })

  test('describeContainers() gives two names that are one for Kubernetes to two Pods', () => {
    const { pods } = describeAll(container('a_b', web), container('a-b', web))
    expect(pods.map(({ name }) => name)).toEqual(['a-b', 'a-b-a-b012345678'])
  })

  test('describeContainers() refuses an address that no Service can have, and that Service alone', () => {
    const loopback = { ...web, 'fairlead.cluster-ip': '127.0.0.1' }
    const { services, problems } = describeAll(
      container('a', loopback),
      container('b', { ...web, 'fairlead.service': 'ok' }),
    )
    expect(services.map(({ name }) => name)).toEqual(['ok'])
    expect(problems).toMatchObject([{ container: 'a', path: 'spec.clusterIP' }])
  })
})
