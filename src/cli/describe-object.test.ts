import { expect, test } from 'vitest'
import { describeObject } from './describe-object.ts'

const now = Date.parse('2026-01-01T00:10:00Z')
const metadata = (name: string, extra: object = {}) => ({ name, namespace: 'shop', ...extra })

test('describeObject() shows a Service with its endpoints and events', () => {
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadata('web', { labels: { b: '2', app: 'web' }, annotations: { note: 'x' } }),
    spec: {
      type: 'NodePort',
      selector: { app: 'web' },
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      clusterIP: '10.96.0.7',
      clusterIPs: ['10.96.0.7'],
      ports: [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 8080, nodePort: 30080 }],
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
      externalTrafficPolicy: 'Cluster',
    },
  }
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: metadata('web-1'),
    ports: [{ name: 'http', port: 8080 }],
    endpoints: [
      { addresses: ['10.1.0.1'], conditions: { ready: true } },
      { addresses: ['fd00::1'] },
      { addresses: ['10.1.0.2'], conditions: { ready: false } },
    ],
  }
  const event = {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: metadata('e'),
    type: 'Warning',
    reason: 'Full',
    lastTimestamp: '2026-01-01T00:00:00Z',
    source: { component: 'fairlead' },
    message: 'no address is free',
  }
  expect(describeObject(service, { events: [event], slices: [slice], now })).toBe(`Name:                     web
Namespace:                shop
Labels:                   app=web
                          b=2
Annotations:              note: x
Selector:                 app=web
Type:                     NodePort
IP Family Policy:         SingleStack
IP Families:              IPv4
IP:                       10.96.0.7
IPs:                      10.96.0.7
Port:                     http  80/TCP
TargetPort:               8080/TCP
NodePort:                 http  30080/TCP
Endpoints:                10.1.0.1:8080,[fd00::1]:8080 (1 not ready)
Session Affinity:         ClientIP (60 s)
External Traffic Policy:  Cluster
Events:
  Type     Reason  Age  From      Message
  Warning  Full    10m  fairlead  no address is free`)
})

test('describeObject() shows other kinds field by field', () => {
  const network = {
    apiVersion: 'fairlead.dev/v1alpha1',
    kind: 'Network',
    metadata: { name: 'back' },
    spec: {
      subnets: ['10.1.0.0/16'],
      gatewayMode: { ipv4: 'nat' },
      podIPs: [{ ip: '10.1.0.1', up: true }],
      labels: {},
    },
  }
  expect(describeObject(network, { events: [], slices: [], now })).toBe(`Name:         back
Labels:       <none>
Annotations:  <none>
Spec:
  Subnets:
    10.1.0.0/16
  Gateway Mode:
    Ipv4:  nat
  Pod IPs:
    - Ip:  10.1.0.1
      Up:  true
Events:  <none>`)
})
