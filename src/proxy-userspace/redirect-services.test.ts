import { describe, expect, it } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { compileServices, defaultProxySettings, type CompiledServices } from '../proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { frontendKey, type Verdict } from '../proxy/frontends.ts'
import { redirectServices, type ListenerOf, type RedirectedServices } from './redirect-services.ts'

const options = { nodeName: 'this-node', settings: defaultProxySettings }
const listener = (port: number) => ({ ip: parseIp('169.254.62.46'), port: port as Port })
const listenerOf: ListenerOf = ({ protocol }, view) =>
  listener((view === 'verdict' ? 1000 : 2000) + (protocol === 'tcp' ? 1 : 2))

function text(verdict: Verdict | undefined): string {
  return verdict?.kind === 'balance' ? verdict.slots.map((s) => `${s.ip}:${s.port}`).join(' ') : (verdict?.kind ?? '-')
}
const lines = ({ to }: RedirectedServices): string[] =>
  ['default/web', 'default/empty']
    .flatMap((key) => to.services.get(key)?.frontends ?? [])
    .map((f) => [frontendKey(f), text(f.verdict), text(f.outside), f.affinity?.group ?? '-'].join(' | '))

const web = exampleService('web', {
  ports: ['http=80:30080/tcp', 'dns=53/udp', 'sig=36412/sctp'],
  externalTrafficPolicy: 'Local',
  sessionAffinity: { kind: 'ClientIP', timeoutSeconds: 10 },
})
const ports = ['http=8080/tcp', 'dns=5353/udp', 'sig=36412/sctp']
const here = { address: '10.0.0.1', nodeName: 'this-node' }
const slice = (...endpoints: Parameters<typeof exampleSlice>[1]) => exampleSlice(web, endpoints, { ports })
const empty = exampleService('empty', { clusterIPs: ['10.96.0.2'] })
const compile = (slices: ReturnType<typeof slice>, previous?: CompiledServices) =>
  compileServices(exampleSnapshot([[web, slices], [empty]]), { ...options, previous })

describe('redirectServices', () => {
  it('makes the listener the only endpoint of each view, leaves refusals and SCTP as they are, and forgets affinity', () => {
    expect(lines(redirectServices(compile(slice(here, '10.0.2.1')), listenerOf, undefined))).toEqual([
      '10.96.0.1 80/TCP | 169.254.62.46:1001 | - | -',
      'node-port-4 30080/TCP | 169.254.62.46:1001 | 169.254.62.46:2001 | -',
      '10.96.0.1 53/UDP | 169.254.62.46:1002 | - | -',
      '10.96.0.1 36412/SCTP | 10.0.0.1:36412 10.0.2.1:36412 | - | default/web:sig/sctp',
      '10.96.0.2 80/TCP | reject | - | -',
    ])
  })

  it('drops from outside what has endpoints elsewhere only', () => {
    const redirected = redirectServices(compile(slice('10.0.2.1')), listenerOf, undefined)
    expect(lines(redirected)[1]).toBe('node-port-4 30080/TCP | 169.254.62.46:1001 | drop | -')
  })

  it('keeps what looks the same from the kernel, whatever became of the endpoints', () => {
    const udp = exampleService('udp', { ports: ['53/udp'] })
    const at = (address: string, previous?: CompiledServices) =>
      compileServices(exampleSnapshot([[udp, exampleSlice(udp, [address], { ports: ['53/udp'] })]]), {
        ...options,
        previous,
      })
    const first = redirectServices(at('10.0.0.1'), listenerOf, undefined)
    const second = redirectServices(at('10.0.0.2', first.from), listenerOf, first)
    expect(second.to.services.get('default/udp')).toBe(first.to.services.get('default/udp'))
  })

  it('refuses where nobody listens, and looks again the next time', () => {
    const compiled = compile(slice(here))
    const first = redirectServices(compiled, () => undefined, undefined)
    expect(lines(first)[0]).toBe('10.96.0.1 80/TCP | reject | - | -')
    const second = redirectServices(compiled, listenerOf, first)
    expect(lines(second)[0]).toBe('10.96.0.1 80/TCP | 169.254.62.46:1001 | - | -')
    expect(second.incomplete.size).toBe(0)
  })

  it('lets go of Services that are gone', () => {
    const first = redirectServices(compile(slice(here)), listenerOf, undefined)
    const without = compileServices(exampleSnapshot([[empty]]), { ...options, previous: first.from })
    expect(lines(redirectServices(without, listenerOf, first))).toEqual(['10.96.0.2 80/TCP | reject | - | -'])
  })
})
