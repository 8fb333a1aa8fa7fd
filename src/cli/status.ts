import { Command } from 'commander'
import type { ClusterView, ServiceConnectionsView, StatusView, SyncView } from '../daemon/control-api.ts'
import { callDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'

/** `fairlead status`: exits 0 when the daemon is ready, 1 when it is not. */
export function statusCommand(): Command {
  return new Command('status')
    .description('what the daemon did last, and what it waits for (exit code 1 until it is ready)')
    .addOption(socketOption())
    .option('--json', 'print as JSON')
    .action(async (options: { socket: string; json?: boolean }) => {
      const status = await callDaemon<StatusView>(options.socket, 'GET', '/status')
      console.log(options.json ? JSON.stringify(status) : formatStatus(status))
      process.exitCode = status.ready ? 0 : 1
    })
}

/** The status for people. */
export function formatStatus(status: StatusView): string {
  const { sources, services, network, dns, api, cluster } = status
  const lines = [
    `fairlead ${status.version} on ${status.node}: ${status.ready ? 'ready' : `waiting for ${status.waitingFor.join(', ')}`}`,
    `  up ${formatDuration(status.uptimeSeconds)}, pid ${status.pid}, memory ${(status.rssBytes / 1e6).toFixed(0)} MB`,
    `sources   ${sources.objects.services} Services, ${sources.objects.slices} EndpointSlices, ${sources.objects.pods} pods`,
    ...sources.problems.map((problem) => `  ! ${problem}`),
  ]
  if (services) {
    lines.push(
      `services  ${services.mode}: ${services.services} Services, ${services.endpoints} endpoints; ` +
        `${services.syncs} syncs, ${services.failures} failed, ${services.repairs} repairs`,
    )
    if (services.firstSync) lines.push(`  first sync  ${formatSync(services.firstSync)}`)
    if (services.lastSync) lines.push(`  last sync   ${formatSync(services.lastSync)}`)
    if (services.pendingMs >= 1000)
      lines.push(`  ! a change has waited ${formatDuration(Math.floor(services.pendingMs / 1000))} for the kernel`)
    lines.push(...formatConnections(services.connections))
    lines.push(...services.problems.map((problem) => `  ! ${problem}`))
  }
  if (network) {
    lines.push(
      `network   ${network.name}: bridge ${network.bridge}, ${network.subnets.join(', ')}, MTU ${network.mtu}, ${network.pods} pods`,
      ...network.problems.map((problem) => `  ! ${problem}`),
    )
  }
  if (dns)
    lines.push(
      `dns       ${dns.addresses.join(', ')} for ${dns.zone}: ${dns.queries} queries, ${dns.forwarded} forwarded`,
    )
  if (api) lines.push(`api       ${api.url}; KUBECONFIG=${api.kubeconfig}, socket ${api.socket}`)
  if (cluster) lines.push(...formatCluster(cluster))
  return lines.join('\n')
}

/** The other nodes, at most ten of them. */
function formatCluster({ registered, renewedSeconds, nodes, routes, problems }: ClusterView): string[] {
  const others = nodes.filter(({ self }) => !self)
  const ready = nodes.filter((node) => node.ready === 'True').length
  const heard =
    renewedSeconds === undefined ? 'not yet heard by the API' : `heard by the API ${formatDuration(renewedSeconds)} ago`
  const lines = [
    `cluster   ${nodes.length} nodes, ${ready} ready; this one is ${registered ? heard : 'not registered'}`,
  ]
  for (const { name, addresses, podCIDRs, ready } of others.slice(0, 10)) {
    const via = routes
      .filter(({ node }) => node === name)
      .map(({ destination, via, link }) => `${destination} via ${via} on ${link}`)
    const where =
      via.join(', ') || `${podCIDRs.join(', ') || 'no pods'} at ${addresses.join(', ') || 'no address'}, no route`
    lines.push(`  ${name.padEnd(10)}  ${ready === 'True' ? 'ready' : 'not ready'}: ${where}`)
  }
  if (others.length > 10) lines.push(`  and ${others.length - 10} more nodes (--json has all)`)
  return [...lines, ...problems.map((problem) => `  ! ${problem}`)]
}

/** At most ten endpoints: a rolling update of everything has thousands. */
function formatConnections(view: ServiceConnectionsView | undefined): string[] {
  if (!view) return []
  const { forgotten, reset, draining } = view
  const lines: string[] = []
  const stale = forgotten.ipv4 + forgotten.ipv6
  if (stale + reset > 0)
    lines.push(`  forgotten   ${stale} stale UDP connections; ${reset} ended after their drain time`)
  for (const { service, endpoint, connections, endsInSeconds } of draining.slice(0, 10)) {
    const end = endsInSeconds === undefined ? '' : `, ended in ${endsInSeconds} s`
    lines.push(`  draining    ${service} ${endpoint}: ${connections ?? 'not yet counted'} connections${end}`)
  }
  if (draining.length > 10) lines.push(`  draining    and ${draining.length - 10} more endpoints (--json has all)`)
  return lines
}

function formatSync(sync: SyncView): string {
  return (
    `${sync.time}: ${sync.changedServices} Services, ${sync.elements} elements in ${sync.messages} messages, ${sync.bytes} bytes; ` +
    `${sync.wallMs.toFixed(1)} ms, of it ${sync.kernelMs.toFixed(2)} in the kernel`
  )
}

function formatDuration(seconds: number): string {
  if (seconds < 120) return `${Math.floor(seconds)} s`
  return seconds < 7200 ? `${Math.floor(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`
}
