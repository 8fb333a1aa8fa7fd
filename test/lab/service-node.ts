import { writeSysctl } from '../../src/linux/sysctl.ts'
import type { Host } from './host.ts'
import { createLab } from './lab.ts'

/** The addresses of {@link createServiceNode}, one entry for each family. */
export const families = [
  {
    name: 'IPv4',
    vip: '10.96.0.5',
    empty: '10.96.0.6',
    node: '192.0.2.2',
    gateway: '10.0.0.1',
    pods: { web1: '10.0.0.11', web2: '10.0.0.12', asking: '10.0.0.9' },
    neighbour: '192.0.2.3',
    loopback: '127.0.0.1',
  },
  {
    name: 'IPv6',
    vip: 'fd00:96::5',
    empty: 'fd00:96::6',
    node: 'fd00:c::2',
    gateway: 'fd00:10::1',
    pods: { web1: 'fd00:10::11', web2: 'fd00:10::12', asking: 'fd00:10::9' },
    neighbour: 'fd00:c::3',
    loopback: '::1',
  },
] as const

/** The pods of {@link createServiceNode}. */
export type PodName = 'web1' | 'web2' | 'asking'

/**
 * A node for Services: two pods that serve (TCP 8080, UDP 5353) and one that asks on a bridge, and a neighbour on its uplink
 * that routes everything to it.
 */
export async function createServiceNode() {
  const lab = createLab()
  const node = await lab.host('node', { forward: true })
  const neighbour = await lab.host('neighbour')
  const pods = {} as Record<PodName, Host>
  const [v4, v6] = families
  await node.createBridge('br0', ['10.0.0.1/24', 'fd00:10::1/64'])
  // Redirects count against the limit of ICMP errors to the same address (net/ipv4/route.c, ip_rt_send_redirect): after some
  // traffic between pods, "port unreachable" would come a second late. A device sends none when both say 0.
  for (const name of ['all', 'br0']) {
    writeSysctl(`net/ipv4/conf/${name}/send_redirects`, 0, { netns: node.netns })
  }
  for (const name of ['web1', 'web2', 'asking'] as const) {
    pods[name] = await lab.host(name)
    await lab.link(node, pods[name], {
      aBridge: 'br0',
      // As our own pods are (docs/adr/0004-pods-are-routed.md): a kernel without br_netfilter translates no answer that the
      // bridge alone carries from port to port.
      b: [`${v4.pods[name]}/32`, `${v6.pods[name]}/128`],
    })
    // With bridged packets shown to the IP hooks, one that is balanced back to its pod leaves by the port it came from.
    await node.rtnetlink.links.set(name, { hairpin: true })
    await pods[name].addRoute(`${v4.gateway}/32`, { dev: 'node' })
    await pods[name].addRoute(`${v6.gateway}/128`, { dev: 'node' })
    await pods[name].addRoute('0.0.0.0/0', { via: v4.gateway })
    await pods[name].addRoute('::/0', { via: v6.gateway })
  }
  await node.rtnetlink.links.set('br0', { up: true })
  await lab.link(neighbour, node, {
    a: [`${v4.neighbour}/24`, `${v6.neighbour}/64`],
    b: [`${v4.node}/24`, `${v6.node}/64`],
  })
  for (const [destination, via] of [
    ['0.0.0.0/0', v4],
    ['::/0', v6],
  ] as const) {
    await neighbour.addRoute(destination, { via: via.node })
    await node.addRoute(destination, { via: via.neighbour })
  }
  for (const name of ['web1', 'web2'] as const) {
    await pods[name].listenTcp(8080)
    await pods[name].listenUdp(5353)
  }
  return { node, neighbour, pods, [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose]() }
}
