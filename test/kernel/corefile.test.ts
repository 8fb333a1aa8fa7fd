import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { describe, expect, test } from 'vitest'
import { FakeApiServer } from '../../src/kubernetes/fake-api-server.ts'
import { openNetns } from '../../src/linux/netns.ts'
import { patience } from '../lab/patience.ts'
import { DaemonProcess, launcher, Machine, machineObstacle, sleep } from './machine.ts'

const obstacle = machineObstacle()
const services = '/api/v1/services'

/** An API server that listens on the machine. */
async function startApiServer(machine: Machine): Promise<FakeApiServer> {
  const pid = Number(machine.prefix.find((word) => word.startsWith('--target='))?.slice('--target='.length))
  using netns = openNetns({ pid })
  return await FakeApiServer.start(createServer(), (server) => netns.enter(() => server.listen(6443)))
}

function putService(api: FakeApiServer, name: string, clusterIP: string): void {
  const spec = { clusterIP, clusterIPs: [clusterIP], ports: [{ name: 'http', port: 80 }] }
  api.put(services, { metadata: { name, namespace: 'shop' }, spec })
}

async function eventually(what: () => Promise<void>): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await what()
    } catch (error) {
      if (attempt === 300) throw error
      await sleep(patience(50))
    }
  }
}

/** kubeadm's file, with the ways that a test needs: an address, a kubeconfig, a shorter look at the file. */
function corefile(kubeconfig: string, more = ''): string {
  return `.:53 {
    bind 127.0.0.3
    errors
    health {
       lameduck 1s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       kubeconfig ${kubeconfig}
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . 127.0.0.9 {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload 2s
    loadbalance
    ${more}
}
`
}

describe.skipIf(obstacle !== undefined)(`dns serve${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  test("takes CoreDNS's place with its Corefile, follows the file, and says goodbye", async () => {
    await using machine = await Machine.create()
    await using api = await startApiServer(machine)
    putService(api, 'web', '172.30.0.41')
    const kubeconfig = machine.write(
      'kubeconfig',
      `current-context: x
contexts: [{name: x, context: {cluster: c}}]
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:6443'}}]
`,
    )
    const file = machine.write('Corefile', corefile(kubeconfig))
    const server = new DaemonProcess(machine.spawn(launcher, 'dns', 'serve', '--corefile', file))
    const dig = async (...words: string[]) => {
      const { stdout } = await machine.run('dig', '+short', '+tries=1', '+time=1', '@127.0.0.3', ...words)
      return stdout.trim()
    }
    const get = async (where: string) =>
      (await machine.run('curl', '-s', '-m', '3', `http://127.0.0.1:${where}`)).stdout

    await eventually(async () => expect(await get('8181/ready')).toBe('OK'))
    expect(await dig('web.shop.svc.cluster.local')).toBe('172.30.0.41')
    expect(await dig('+tcp', '-x', '172.30.0.41')).toBe('web.shop.svc.cluster.local.')
    expect(await get('8080/health')).toBe('OK')
    putService(api, 'cart', '172.30.0.42')
    await eventually(async () => expect(await dig('cart.shop.svc.cluster.local')).toBe('172.30.0.42'))
    expect(await get('9153/metrics')).toMatch(
      /^coredns_dns_requests_total\{server="dns:\/\/127\.0\.0\.3:53",zone="\.",view="",proto="udp",family="1",type="A"\} [1-9]/m,
    )

    // A file that cannot be used changes nothing; the next one counts.
    writeFileSync(file, corefile(kubeconfig, 'nonsense'))
    await eventually(async () => expect(await get('9153/metrics')).toMatch(/^coredns_reload_failed_total [1-9]/m))
    expect(server.log).toContain(`${file}:25: plugin \\"nonsense\\" is not supported`)
    expect(await dig('web.shop.svc.cluster.local')).toBe('172.30.0.41')
    const hosts = 'hosts {\n192.0.2.7 nas.home\nfallthrough\n}\nrewrite name old.home nas.home'
    writeFileSync(file, corefile(kubeconfig, hosts))
    await eventually(async () => expect(await dig('old.home')).toBe('192.0.2.7'))
    expect(await dig('web.shop.svc.cluster.local')).toBe('172.30.0.41')

    const ended = server.end('SIGTERM')
    await eventually(async () => expect(await get('8181/ready')).toBe('Shutting down'))
    expect(await dig('web.shop.svc.cluster.local')).toBe('172.30.0.41')
    expect(await ended).toBe(0)
  }, 60_000)
})
