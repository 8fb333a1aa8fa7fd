import { run } from '../src/linux/exec.ts'
import type { Netns } from '../src/linux/netns.ts'
import type { Contender, Endpoint } from './attach.ts'

/** The same by a shell script of ip(8) and nft(8), as people write it: one shell for all endpoints of a call. */
export async function openIpScript(host: Netns): Promise<Contender> {
  const script = async (lines: readonly string[]): Promise<void> => {
    const { code, stderr } = await run(['sh', '-e'], { netns: host, input: `${lines.join('\n')}\n` })
    if (code !== 0) throw new Error(`ip script: ${stderr}`)
  }
  await script([
    'ip link add br0 type bridge',
    'ip link set br0 up',
    'ip addr add 10.45.0.1/20 dev br0',
    'ip addr add fd45::1/64 dev br0 nodad',
    `nft 'table inet bench {
      map ports4 { type inet_service : ipv4_addr . inet_service; }
      map ports6 { type inet_service : ipv6_addr . inet_service; }
      chain pre { type nat hook prerouting priority dstnat;
        fib daddr type local meta nfproto ipv4 dnat ip to tcp dport map @ports4
        fib daddr type local meta nfproto ipv6 dnat ip6 to tcp dport map @ports6
      }
      chain post { type nat hook postrouting priority srcnat; ip saddr 10.45.0.0/20 masquerade; ip6 saddr fd45::/64 masquerade; }
    }'`,
  ])
  return {
    name: 'ip',
    publishes: true,
    attach: async (endpoints) => await script(endpoints.flatMap(attach)),
    detach: async (endpoints) => await script(endpoints.flatMap(detach)),
    // All that it made goes with the namespace.
    [Symbol.asyncDispose]: async () => {},
  }
}

function addressesOf({ index }: Endpoint): { ipv4: string; ipv6: string } {
  const number = index + 2
  return { ipv4: `10.45.${number >> 8}.${number & 255}`, ipv6: `fd45::${number.toString(16)}` }
}

function attach(endpoint: Endpoint): string[] {
  const { index, netns, hostPort } = endpoint
  const { ipv4, ipv6 } = addressesOf(endpoint)
  const pod = netns.name ?? ''
  return [
    `ip link add veth${index} type veth peer name eth0 netns ${pod}`,
    `ip link set veth${index} master br0 up`,
    `ip -n ${pod} link set lo up`,
    `ip -n ${pod} link set eth0 up`,
    `ip -n ${pod} addr add ${ipv4}/20 dev eth0`,
    `ip -n ${pod} addr add ${ipv6}/64 dev eth0 nodad`,
    `ip -n ${pod} route add default via 10.45.0.1`,
    `ip -n ${pod} -6 route add default via fd45::1`,
    ...(hostPort === undefined
      ? []
      : [
          `nft 'add element inet bench ports4 { ${hostPort} : ${ipv4} . 80 }
            add element inet bench ports6 { ${hostPort} : ${ipv6} . 80 }'`,
        ]),
  ]
}

function detach({ index, hostPort }: Endpoint): string[] {
  return [
    ...(hostPort === undefined
      ? []
      : [
          `nft 'delete element inet bench ports4 { ${hostPort} }
            delete element inet bench ports6 { ${hostPort} }'`,
        ]),
    `ip link del veth${index}`,
  ]
}
