import { describe, expect, it } from 'vitest'
import { silentLog } from '../base/log.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { FakeNftables } from '../nftables/fake-nftables.ts'
import { compileServices, defaultProxySettings } from '../proxy/compile-services.ts'
import type { PacketAtNode } from '../proxy/dataplane.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { NftablesMode } from './nftables-mode.ts'
import { servicesTable, sets } from './nftables-sets.ts'

const web = exampleService('web', { ports: ['80:30080/tcp'] })
const services = compileServices(exampleSnapshot([[web, exampleSlice(web, ['10.0.0.1', '10.0.0.2'])]]), {
  nodeName: 'this-node',
  settings: { ...defaultProxySettings, localPods: [parseCidr('10.0.0.0/8')] },
})
const host = { isLocal: (ip: string) => ip === '192.168.0.2' }

function packet(from: string, to: string, port: number): PacketAtNode {
  return {
    protocol: 'tcp',
    source: parseIp(from),
    destination: parseIp(to),
    port: parsePort(port),
    origin: from.startsWith('10.') ? 'pod' : 'outside',
    toNode: host.isLocal(to),
    iifname: 'eth0',
  }
}

async function programmed() {
  const kernel = new FakeNftables()
  const mode = new NftablesMode(kernel, { log: silentLog })
  await mode.sync(services)
  return { client: kernel, mode }
}

describe('NftablesMode.explain', () => {
  it('names the rules and elements that decide, and agrees with what is wanted', async () => {
    const { mode } = await programmed()
    const { lines, differences } = await mode.explain(services, packet('203.0.113.2', '192.168.0.2', 30080), host)
    expect(differences).toEqual([])
    expect(lines.filter((line) => line.startsWith('  '))).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^ {2}@node-ports-4: tcp \. 30080 : /),
        expect.stringMatching(/^ {2}@node-port-endpoints-4: tcp \. 30080 \. f0e0:0 : 10\.0\.0\.1 \. 8080$/),
      ]),
    )
    expect(lines.at(-1)).toContain('masquerade')
  })

  it('says what the kernel lacks', async () => {
    const { client, mode } = await programmed()
    const set = sets[4].endpoints
    const table = await client.read('inet', servicesTable)
    const [element] = [...(table?.elements.get(set.name) ?? [])].filter(([, data]) => data.includes('\x00\x02'))
    await client.run({
      family: 'inet',
      table: servicesTable,
      changes: [{ op: 'delete-elements', set, elements: new Map([element!]) }],
    })
    const { differences } = await mode.explain(services, packet('10.0.0.9', '10.96.0.1', 80), host)
    expect(differences).toEqual([
      'in the kernel: dropped, which is not wanted',
      'wanted: to 10.0.0.2:8080, which the kernel does not have',
      'table inet fairlead-services differs from what is wanted in 1 places ("fairlead verify" lists them)',
    ])
  })

  it('says that there is no table', async () => {
    const mode = new NftablesMode(new FakeNftables(), { log: silentLog })
    expect((await mode.explain(services, packet('10.0.0.9', '10.96.0.1', 80), host)).differences).toEqual([
      'the kernel has no table inet fairlead-services',
    ])
  })
})
