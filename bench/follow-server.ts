import { FakeApiServer, type FakeObject } from '../src/kubernetes/fake-api-server.ts'

/** What the process of the API server is told, as words: the number of Services, and of endpoints of each. */
const [services = 0, endpoints = 0] = process.argv.slice(2).map(Number)

const servicesPath = '/api/v1/services'
const slicesPath = '/apis/discovery.k8s.io/v1/endpointslices'

/** A Service as kubectl makes it: what a node needs is a third of it. */
function service(index: number): FakeObject {
  const name = `service-${index}`
  const clusterIP = `10.${100 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`
  const spec = {
    clusterIP,
    clusterIPs: [clusterIP],
    internalTrafficPolicy: 'Cluster',
    ipFamilies: ['IPv4'],
    ipFamilyPolicy: 'SingleStack',
    ports: [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 8080 }],
    selector: { app: name },
    sessionAffinity: 'None',
    type: 'ClusterIP',
  }
  const annotations = { 'kubectl.kubernetes.io/last-applied-configuration': JSON.stringify(spec) }
  return { metadata: { ...metadata(name, { app: name }), annotations }, spec, status: { loadBalancer: {} } }
}

function slice(index: number, round: number): FakeObject {
  const name = `service-${index}`
  const labels = {
    'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
    'kubernetes.io/service-name': name,
  }
  return {
    metadata: metadata(`${name}-x7k2p`, labels),
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: Array.from({ length: endpoints }, (_, at) => ({
      addresses: [`10.${10 + (round % 50)}.${(index >> 8) & 255}.${((index & 255) + at) % 250 || 1}`],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `node-${at}`,
      targetRef: { kind: 'Pod', name: `${name}-7d4b9c8f6d-${at}`, namespace: 'bench', uid: crypto.randomUUID() },
      zone: 'zone-a',
    })),
  }
}

function metadata(name: string, labels: Readonly<Record<string, string>>): FakeObject['metadata'] {
  const fieldsV1 = Object.fromEntries(
    ['f:spec', 'f:status', 'f:metadata'].map((field) => [field, { '.': {}, [`f:${name}`]: {} }]),
  )
  const managedFields = [{ manager: 'kubectl', operation: 'Update', time: '2026-01-01T00:00:00Z', fieldsV1 }]
  return {
    name,
    namespace: 'bench',
    uid: crypto.randomUUID(),
    creationTimestamp: '2026-01-01T00:00:00Z',
    labels,
    managedFields,
  }
}

const api = await FakeApiServer.start()
for (let index = 0; index < services; index++) {
  api.put(servicesPath, service(index))
  api.put(slicesPath, slice(index, 0))
}
process.on(
  'message',
  (message: { readonly watchList?: boolean; readonly changes?: number; readonly round?: number }) => {
    if (message.watchList !== undefined) {
      api.watchList = message.watchList
      process.send?.({ done: true })
      return
    }
    void change(message.changes ?? 0, message.round ?? 1)
  },
)
process.send?.({ address: api.address })

/** Changes as many slices, each once, 1000 a second, evenly; says at the end when each was sent. */
async function change(changes: number, round: number): Promise<void> {
  const began = performance.now()
  const sent: number[] = []
  for (let index = 0; index < changes;) {
    const due = Math.min(changes, Math.ceil(performance.now() - began))
    for (; index < due; index++) {
      sent.push(performance.timeOrigin + performance.now())
      api.put(slicesPath, slice(index, round))
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  process.send?.({ sent })
}
