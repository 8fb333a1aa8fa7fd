import { describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { memberName, sharedAddresses } from './affinity-members.ts'
import { compileServices, defaultProxySettings } from './compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from './example-objects.ts'
import type { Affinity } from './frontends.ts'

const endpoint = (text: string) => {
  const [ip = '', port] = text.split(' ')
  return { ip: parseIp(ip), port: Number(port) as Port }
}

describe('memberName()', () => {
  const group = { timeoutSeconds: 60, group: 'default/web' }

  test('is the endpoint', () => {
    expect(memberName({ ...group, remembers: 'endpoint' }, endpoint('10.0.0.1 80'))).toBe('10.0.0.1 80')
  })

  test('is the address where all ports count, and the place among its ports where it has several', () => {
    const endpoints = ['10.0.0.1 9000', '10.0.0.1 80', '10.0.0.2 80', '10.0.0.1 443'].map(endpoint)
    const affinity: Affinity = { ...group, remembers: 'address', shared: sharedAddresses(endpoints)! }
    expect(endpoints.map((one) => memberName(affinity, one))).toEqual([
      '10.0.0.1 #3',
      '10.0.0.1',
      '10.0.0.2',
      '10.0.0.1 #2',
    ])
    expect(sharedAddresses(endpoints.slice(1, 3))).toBeUndefined()
  })
})

describe('affinity for all ports of a Service', () => {
  const sticky = {
    annotations: { 'fairlead.dev/affinity-scope': 'service' },
    sessionAffinity: { kind: 'ClientIP', timeoutSeconds: 60 },
  } as const
  const affinityOf = (ports: readonly string[]): readonly (Affinity | undefined)[] => {
    const service = exampleService('web', { ...sticky, ports })
    const names = ports.map((port) => port.split('=')[0])
    const slices = [8080, 9080].map((first) =>
      exampleSlice(service, ['192.0.2.1'], {
        name: `web-${first}`,
        ports: ports.length === 1 ? [`${first}/tcp`] : names.map((name, i) => `${name}=${first + i}/tcp`),
      }),
    )
    const snapshot = exampleSnapshot([[service, ...slices]])
    const compiled = compileServices(snapshot, { nodeName: 'here', settings: defaultProxySettings })
    return compiled.services.get('default/web')!.frontends.map(({ affinity }) => affinity)
  }

  test('knows which endpoints share an address, port by port', () => {
    expect(affinityOf(['http=80/tcp', 'admin=81/tcp']).map((affinity) => affinity?.shared)).toEqual([
      [{ ip: '192.0.2.1', ports: [8080, 9080] }],
      [{ ip: '192.0.2.1', ports: [8081, 9081] }],
    ])
  })

  test('remembers endpoints where there is one port only: they keep their clients whoever comes or goes', () => {
    expect(affinityOf(['80/tcp'])).toMatchObject([{ remembers: 'endpoint', group: 'default/web:/tcp' }])
  })
})
