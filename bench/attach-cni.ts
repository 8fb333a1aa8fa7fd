import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '../src/linux/exec.ts'
import type { Netns } from '../src/linux/netns.ts'
import type { Contender, Endpoint } from './attach.ts'

/** Where distributions put the CNI reference plugins: Debian, and most others. */
const folders = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni']

/** How many container runtimes let plugins run at the same time; more makes them wait for the xtables lock. */
const atOnce = 4

/**
 * The CNI reference plugins bridge (with host-local) and portmap, run as the CNI specification says: configuration and
 * former result on standard input, the rest in the environment. Runtimes run every plugin of their list, portmap also for an
 * endpoint without ports. A text: why they cannot be run.
 */
export async function openCniChain(host: Netns, dataDir: string): Promise<Contender | string> {
  return await openPlugins(host, { name: 'cni', dataDir, portmap: true })
}

/** As {@link openCniChain}, of a list without portmap, which publishes nothing. */
export async function openCniBridge(host: Netns, dataDir: string): Promise<Contender | string> {
  return await openPlugins(host, { name: 'cni-bridge', dataDir, portmap: false })
}

async function openPlugins(
  host: Netns,
  list: { readonly name: string; readonly dataDir: string; readonly portmap: boolean },
): Promise<Contender | string> {
  const { name, dataDir } = list
  const folder = folders.find((path) => existsSync(join(path, 'bridge')) && existsSync(join(path, 'portmap')))
  if (folder === undefined)
    return 'the plugins bridge and portmap are not installed; Debian: apt-get install containernetworking-plugins'
  const call = async (
    command: 'ADD' | 'DEL',
    config: { readonly type: string } & Readonly<Record<string, unknown>>,
    { index, netns }: Endpoint,
  ): Promise<unknown> => {
    const { code, stdout, stderr } = await run([join(folder, config.type)], {
      netns: host,
      input: JSON.stringify({ cniVersion: '0.4.0', name: 'bench', ...config }),
      env: {
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        CNI_COMMAND: command,
        CNI_CONTAINERID: `bench-${index}`,
        CNI_NETNS: netns.path,
        CNI_IFNAME: 'eth0',
        CNI_PATH: folder,
      },
    })
    if (code !== 0) throw new Error(`CNI ${config.type} ${command}: ${stdout}${stderr}`)
    return stdout === '' ? undefined : (JSON.parse(stdout) as unknown)
  }
  const bridge = {
    type: 'bridge',
    bridge: 'cni0',
    isGateway: true,
    ipMasq: true,
    hairpinMode: true,
    ipam: {
      type: 'host-local',
      dataDir,
      ranges: [[{ subnet: '10.44.0.0/20' }], [{ subnet: 'fd44::/64' }]],
      routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
    },
  }
  const portmap = ({ hostPort }: Endpoint, prevResult: unknown): { type: string } & Record<string, unknown> => ({
    type: 'portmap',
    snat: true,
    capabilities: { portMappings: true },
    ...(hostPort !== undefined && {
      runtimeConfig: { portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp' }] },
    }),
    prevResult,
  })
  const results = new Map<number, unknown>()
  return {
    name,
    publishes: list.portmap,
    attach: async (endpoints) =>
      await inTurns(endpoints, async (endpoint) => {
        const result = await call('ADD', bridge, endpoint)
        results.set(endpoint.index, list.portmap ? await call('ADD', portmap(endpoint, result), endpoint) : result)
      }),
    detach: async (endpoints) =>
      await inTurns(endpoints, async (endpoint) => {
        const prevResult = results.get(endpoint.index)
        if (list.portmap) await call('DEL', portmap(endpoint, prevResult), endpoint)
        await call('DEL', { ...bridge, prevResult }, endpoint)
      }),
    [Symbol.asyncDispose]: async () => {},
  }
}

/** Works through a list, a few at the same time. */
async function inTurns(endpoints: readonly Endpoint[], work: (endpoint: Endpoint) => Promise<void>): Promise<void> {
  const rest = endpoints.values()
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (const endpoint of rest) await work(endpoint)
    }),
  )
}
