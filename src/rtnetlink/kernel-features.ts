import { probe, type Feature } from '../linux/features.ts'
import { createAnonymousNetns, type Netns } from '../linux/netns.ts'
import { randomMac } from '../net/mac-address.ts'
import { createBridge, createVeth } from './link-requests.ts'
import { NETLINK_NETFILTER } from '../netlink/message.ts'
import { openNetlink } from '../netlink/netlink-socket.ts'
import { openRtnetlink } from './rtnetlink.ts'

/** NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN (include/uapi/linux/netfilter/nf_tables.h): the cheapest question to nf_tables. */
const NFT_GETGEN = (10 << 8) | 16

/** Probes what the kernel's network can do by doing it in a network namespace made for this and thrown away. */
export async function probeKernelFeatures(): Promise<Feature[]> {
  let netns: Netns
  try {
    netns = createAnonymousNetns()
  } catch (cause) {
    const detail = `cannot try it: ${cause instanceof Error ? cause.message : String(cause)}`
    return Object.keys(hints).map((name) => ({ name, ok: false, detail, hint: 'run as root to have it tried' }))
  }
  using scope = new DisposableStack()
  scope.use(netns)
  return [
    await attempt('bridge', async () => {
      using rtnetlink = openRtnetlink({ netns })
      await rtnetlink.run([createBridge({ name: 'probe-br', mac: randomMac() })])
      return 'created one'
    }),
    await attempt('veth', async () => {
      using rtnetlink = openRtnetlink({ netns })
      await rtnetlink.run([createVeth({ name: 'probe-veth', peer: { name: 'probe-peer' } })])
      return 'created a pair'
    }),
    await attempt('nf_tables', async () => {
      using netlink = openNetlink({ protocol: NETLINK_NETFILTER, netns })
      await netlink.request({ name: 'ask nf_tables for its generation', type: NFT_GETGEN, payload: Buffer.alloc(4) })
      return 'answers'
    }),
  ]
}

const hints = {
  bridge: 'modprobe bridge, or use a kernel with CONFIG_BRIDGE',
  veth: 'modprobe veth, or use a kernel with CONFIG_VETH',
  nf_tables: 'modprobe nf_tables, or use a kernel with CONFIG_NF_TABLES',
} as const

/** Remembers the first answer: what a kernel can do does not change while it runs, except for modules that are loaded. */
export function rememberFeatures(probeAll: () => Promise<Feature[]>): () => Promise<Feature[]> {
  let answer: Promise<Feature[]> | undefined
  return () => (answer ??= probeAll())
}

async function attempt(name: keyof typeof hints, work: () => Promise<string>): Promise<Feature> {
  try {
    const detail = await work()
    return probe(name, hints[name], () => detail)
  } catch (error) {
    return probe(name, hints[name], () => {
      throw error
    })
  }
}
