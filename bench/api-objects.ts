/** A Service as kubectl makes it. */
export function benchService(index: number): object {
  const name = `service-${index}`
  const spec = {
    ports: [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 8080 }],
    selector: { app: name },
    type: 'ClusterIP',
  }
  const annotations = {
    'kubectl.kubernetes.io/last-applied-configuration': JSON.stringify({ metadata: { name }, spec }),
  }
  return { apiVersion: 'v1', kind: 'Service', metadata: { name, labels: { app: name }, annotations }, spec }
}

/** Its EndpointSlice as the controller makes it; another `round`, other addresses. */
export function benchSlice(index: number, endpoints: number, round: number) {
  const name = `service-${index}`
  const labels = {
    'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
    'kubernetes.io/service-name': name,
  }
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${name}-x7k2p`, namespace: 'default', labels },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: Array.from({ length: endpoints }, (_, at) => ({
      addresses: [`10.${10 + (round % 80)}.${(index >> 8) & 255}.${((index & 255) + at) % 250 || 1}`],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `node-${at}`,
      targetRef: { kind: 'Pod', name: `${name}-7d4b9c8f6d-${at}`, namespace: 'default' },
      zone: 'zone-a',
    })),
  }
}
