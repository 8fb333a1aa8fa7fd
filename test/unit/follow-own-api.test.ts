import type { Server } from 'node:http'
import { mkdtempSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { ApiServer } from '../../src/api/api-server.ts'
import { openCredentials, writeKubeconfig } from '../../src/api/credentials.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { parseCidr } from '../../src/net/cidr.ts'
import { followKubernetes, type KubernetesSource } from '../../src/sources/kubernetes.ts'

/** The embedded API server over TLS, with what it takes to write to it. */
class OwnApi implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'follow-own-api-'))
  readonly kubeconfig = join(this.folder, 'kubeconfig')
  #server: ApiServer | undefined
  #listener: Server | undefined
  #local: Server | undefined
  #port = 0
  #localPort = 0

  async start(): Promise<void> {
    const claims = { serviceCIDRs: [parseCidr('10.96.0.0/24')], loadBalancerCIDRs: [] }
    const file = join(this.folder, 'objects.db')
    this.#server = await ApiServer.open({ file, claims, clock: systemClock, log: silentLog, version: 'test' })
    const credentials = openCredentials(join(this.folder, 'tls'), { hosts: ['127.0.0.1'], now: new Date() })
    this.#listener = this.#server.createListener((request) => credentials.authenticate(request), credentials.server)
    this.#port = await listen(this.#listener, this.#port)
    this.#local = this.#server.createListener(() => 'admin')
    this.#localPort = await listen(this.#local, 0)
    writeKubeconfig(this.kubeconfig, {
      url: `https://127.0.0.1:${this.#port}`,
      authority: credentials.authority,
      token: credentials.tokens['read-only'],
    })
  }

  async call(method: string, path: string, body?: object): Promise<{ status: number; body: never }> {
    const url = `http://127.0.0.1:${this.#localPort}${path}`
    const headers = { 'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json' }
    const response = await fetch(url, { method, headers, ...(body && { body: JSON.stringify(body) }) })
    return { status: response.status, body: (await response.json()) as never }
  }

  /** Ends every connection, as a restart of the network does. */
  drop(): void {
    this.#listener?.closeAllConnections()
  }

  async stop(): Promise<void> {
    for (const listener of [this.#listener, this.#local]) {
      // Connections within their TLS handshake are no HTTP connections yet, and are missed by one look.
      const again = setInterval(() => listener?.closeAllConnections(), 10)
      await new Promise((resolve) => listener?.close(resolve))
      clearInterval(again)
    }
    this.#server?.[Symbol.dispose]()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    rmSync(this.folder, { recursive: true })
  }
}

async function listen(server: Server, port: number): Promise<number> {
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

const services = '/api/v1/namespaces/default/services'
const slices = '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices'

const service = (name: string) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name },
  spec: { ports: [{ port: 80 }] },
})

const slice = (name: string, address: string) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } },
  addressType: 'IPv4',
  ports: [{ name: '', port: 8080 }],
  endpoints: [{ addresses: [address] }],
})

/** What the server has and what the source has, in the same words. */
async function expectEqual(api: OwnApi, source: KubernetesSource): Promise<void> {
  const list = (await api.call('GET', '/api/v1/services')).body as {
    items: { metadata: { name: string }; spec: { clusterIP: string } }[]
  }
  const sliceList = (await api.call('GET', slices)).body as {
    items: { metadata: { name: string }; endpoints: { addresses: string[] }[] }[]
  }
  const wanted = {
    services: list.items.map(({ metadata, spec }) => `${metadata.name} ${spec.clusterIP}`).toSorted(),
    slices: sliceList.items
      .map(({ metadata, endpoints }) => `${metadata.name} ${endpoints[0]?.addresses[0]}`)
      .toSorted(),
  }
  await vi.waitFor(
    () => {
      const { snapshot } = source.current
      const all = [...snapshot.slices.values()].flat()
      expect({
        services: [...snapshot.services.values()].map(({ name, clusterIPs }) => `${name} ${clusterIPs[0]}`).toSorted(),
        slices: all.map(({ name, endpoints }) => `${name} ${endpoints[0]?.address}`).toSorted(),
      }).toEqual(wanted)
    },
    { timeout: 15_000, interval: 10 },
  )
}

test.each(['all', 'proxy'] as const)(
  'followKubernetes() keeps up with the embedded API server through drops and a restart, view %s',
  async (view) => {
    await using api = new OwnApi()
    await api.start()
    for (const name of ['a', 'b', 'c']) {
      expect((await api.call('POST', services, service(name))).status).toBe(201)
      expect((await api.call('POST', slices, slice(name, '10.0.0.1'))).status).toBe(201)
    }
    using source = await followKubernetes({
      location: { kind: 'kubeconfig', path: api.kubeconfig },
      view,
      nodeName: 'node-1',
      env: {},
      userAgent: 'fairlead/test',
      log: silentLog,
      times: { backoff: { firstMs: 20, maxMs: 100 } },
    })
    await vi.waitFor(() => expect(source.current.synced).toBe(true), { timeout: 10_000 })
    expect(source.current.problems).toEqual([])
    await expectEqual(api, source)
    const change = async (round: number): Promise<void> => {
      const name = `late-${round}`
      await api.call('POST', services, service(name))
      await api.call('POST', slices, slice(name, `10.0.1.${round}`))
      await api.call('PATCH', `${slices}/a-1`, { endpoints: [{ addresses: [`10.0.2.${round}`] }] })
      if (round % 2 === 0) await api.call('DELETE', `${services}/late-${round - 1}`)
    }
    for (let round = 1; round <= 6; round++) {
      await change(round)
      api.drop()
      await change(round + 20)
    }
    await expectEqual(api, source)
    await api.stop()
    await api.start()
    await change(50)
    await expectEqual(api, source)
    expect(source.status().find(({ resource }) => resource === 'services')?.auditFailures).toBe(0)
  },
  60_000,
)
