import { systemClock } from '../../src/base/clock.ts'
import { parseCidr } from '../../src/net/cidr.ts'
import { createBuiltInObjects } from '../../src/api/built-in-objects.ts'
import { openJournal } from '../../src/api/journal.ts'
import { KubeApi } from '../../src/api/kube-api.ts'
import { ObjectStore } from '../../src/api/object-store.ts'
import { resourceTypeOf } from '../../src/api/resources.ts'
import { ServiceClaims } from '../../src/api/service-claims.ts'

// Run by api-crash.test.ts as a process of its own, to be killed: writes Services to the file that it is given, eight at
// a time, and prints each one that was acknowledged.
const [file = '', round = ''] = process.argv.slice(2)
const store = new ObjectStore(openJournal(file))
const claims = new ServiceClaims({
  serviceCIDRs: [parseCidr('10.96.0.0/16')],
  nodePorts: { first: 1024, last: 65_535 },
  loadBalancerCIDRs: [parseCidr('198.18.0.0/15')],
})
const api = new KubeApi({ store, claims, clock: systemClock })
await createBuiltInObjects(api, claims.clusterCIDRs)
const options = { fieldManager: 'crash', fieldValidation: 'Ignore', dryRun: false, warnings: [] } as const
const target = { type: resourceTypeOf('Service'), namespace: 'default', name: '', subresource: '' } as const
const nodePort = { type: 'NodePort', ports: [{ port: 80 }] }
const balancer = { type: 'LoadBalancer', externalTrafficPolicy: 'Local', ports: [{ port: 80 }] }

async function write(lane: number): Promise<never> {
  for (let count = 0; ; count++) {
    const body = { metadata: { name: `s-${round}-${lane}-${count}` }, spec: count % 4 === 0 ? balancer : nodePort }
    const { object } = await api.create(target, body, { ...options, warnings: [] })
    process.stdout.write(`${object.metadata.name} ${object.metadata.uid}\n`)
  }
}
await Promise.all(Array.from({ length: 8 }, (_, lane) => write(lane)))
