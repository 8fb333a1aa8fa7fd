import { Command, Option } from 'commander'
import type {
  ConnectPodRequest,
  NetworkDetailsView,
  NetworkRequest,
  NetworkSummaryView,
  PodView,
} from '../daemon/control-api.ts'
import { describeNetwork } from '../daemon/describe-network.ts'
import { ipvlanModes, macvlanModes } from '../model/network.ts'
import { callDaemon } from './control-client.ts'
import { socketOption } from './socket-option.ts'
import { formatTable } from './table.ts'
import { UsageError } from './usage-error.ts'

/** `fairlead network create|ls|inspect|rm|connect|disconnect` */
export function networkCommand(): Command {
  return new Command('network')
    .description('networks for pods, besides those of the configuration')
    .addCommand(createNetwork())
    .addCommand(listNetworks())
    .addCommand(inspectNetwork())
    .addCommand(removeNetwork())
    .addCommand(connectPod())
    .addCommand(disconnectPod())
}

interface Common {
  readonly socket: string
  readonly json?: boolean
}

interface CreateOptions extends Common {
  readonly driver: string
  readonly bridge?: string
  readonly parent?: string
  readonly macvlanMode?: string
  readonly ipvlanMode?: string
  readonly dhcp?: boolean
  readonly subnet: readonly string[]
  readonly gateway: readonly string[]
  readonly ipRange: readonly string[]
  readonly auxAddress: Readonly<Record<string, string>>
  readonly internal?: boolean
  readonly icc: boolean
  readonly hairpin: boolean
  readonly ipv4: boolean
  readonly ipv6: boolean
  readonly masquerade: boolean
  readonly source: readonly string[]
  readonly gatewayMode?: string
  readonly mtu?: number
  readonly interfaceName?: string
  readonly label: Readonly<Record<string, string>>
}

function createNetwork(): Command {
  return new Command('create')
    .description('make a network; it stays until it is removed, over restarts of the daemon, too')
    .argument('<name>', 'the name of the network')
    .option('-d, --driver <driver>', 'what makes it: bridge, macvlan or ipvlan', 'bridge')
    .option('--parent <link>', "macvlan, ipvlan: the host's link that pods are put on")
    .addOption(
      new Option('--macvlan-mode <mode>', 'how pods on one link see each other (default: bridge)').choices([
        ...macvlanModes,
      ]),
    )
    .addOption(
      new Option('--ipvlan-mode <mode>', 'where the kernel looks for the pod (default: l2)').choices([...ipvlanModes]),
    )
    .option('--dhcp', "macvlan: the LAN's DHCP server gives addresses, instead of a --subnet")
    .option('--bridge <name>', 'the name of the bridge (default: fl-NAME)')
    .option('--subnet <cidr>', 'a subnet; may be repeated (default: one of each family, picked)', collect, [])
    .option(
      '--gateway <ip>',
      "the bridge's address in a subnet (macvlan, ipvlan: the LAN's router; default: the first)",
      collect,
      [],
    )
    .option('--ip-range <cidr>', "the part of a subnet that pods' addresses are taken from", collect, [])
    .option('--aux-address <name=ip>', 'an address that something else has; may be repeated', collectPair, {})
    .option('--internal', 'nothing goes out of the network, and nothing comes in')
    .option('--no-icc', 'pods of the network do not reach each other')
    .option('--no-hairpin', 'frames never leave by the port that they came from')
    .option('--no-ipv4', 'no IPv4')
    .option('--no-ipv6', 'no IPv6')
    .option('--no-masquerade', "pods' packets leave the host under their own addresses")
    .option('--source <ip>', "pods' packets leave the host under this address; one per family", collect, [])
    .addOption(
      new Option('--gateway-mode <mode>', 'how the outside reaches pods').choices(['nat', 'routed', 'isolated']),
    )
    .option('--mtu <bytes>', "the links' MTU (default: the uplink's, also when it changes)", parseNumber)
    .option('--interface-name <name>', 'the name of the link in pods (default: eth0, eth1, ...)')
    .option('-l, --label <key=value>', 'a label; may be repeated', collectPair, {})
    .addOption(socketOption())
    .option('--json', 'print the network as JSON')
    .addHelpText(
      'after',
      `
Examples:
  fairlead network create backend --internal
  fairlead network create office --driver macvlan --parent eth1 --dhcp
  fairlead network create routed --subnet 10.20.0.0/24 --ip-range 10.20.0.128/25 --gateway-mode routed
  fairlead pod run db --network backend -- postgres`,
    )
    .action(async (name: string, options: CreateOptions) => {
      const network = await callDaemon<NetworkSummaryView>(
        options.socket,
        'POST',
        '/networks',
        requestOf(name, options),
      )
      if (options.json) return console.log(JSON.stringify(network))
      console.log(`network ${network.name} is up: ${describeNetwork(network)}`)
    })
}

/** Only what was said, so that the daemon's defaults count. */
function requestOf(name: string, options: CreateOptions): NetworkRequest {
  const { driver, bridge, subnet, gateway, ipRange, auxAddress, internal, gatewayMode, mtu, interfaceName } = options
  const { parent, dhcp, macvlanMode, ipvlanMode } = options
  const [wrong] = [
    ...(macvlanMode !== undefined && driver !== 'macvlan' ? ['--macvlan-mode'] : []),
    ...(ipvlanMode !== undefined && driver !== 'ipvlan' ? ['--ipvlan-mode'] : []),
  ]
  if (wrong !== undefined) {
    throw new UsageError(`${wrong} is not for driver ${driver} (expected --driver ${wrong.split('-')[2]})`, {
      exitCode: 2,
    })
  }
  const mode = macvlanMode ?? ipvlanMode
  const { icc, hairpin, ipv4, ipv6, masquerade, source, label } = options
  return {
    name,
    driver,
    ...(bridge !== undefined && { bridge }),
    ...(parent !== undefined && { parent }),
    ...(mode !== undefined && { mode }),
    ...(dhcp && { addresses: 'dhcp' }),
    ...(subnet.length > 0 && { subnets: subnet }),
    ...(gateway.length > 0 && { gateways: gateway }),
    ...(ipRange.length > 0 && { ipRanges: ipRange }),
    ...(Object.keys(auxAddress).length > 0 && { auxAddresses: auxAddress }),
    ...(internal && { internal }),
    ...(!icc && { icc }),
    ...(!hairpin && { hairpin }),
    ...(!ipv4 && { ipv4 }),
    ...(!ipv6 && { ipv6 }),
    ...(!masquerade && { masquerade }),
    ...(source.length > 0 && { masquerade: source }),
    ...(gatewayMode !== undefined && { gatewayMode }),
    ...(mtu !== undefined && { mtu }),
    ...(interfaceName !== undefined && { interfaceName }),
    ...(Object.keys(label).length > 0 && { labels: label }),
  }
}

function listNetworks(): Command {
  return new Command('ls')
    .description('list the networks of this machine')
    .addOption(socketOption())
    .option('--json', 'print as JSON')
    .action(async (options: Common) => {
      const { networks } = await callDaemon<{ networks: NetworkSummaryView[] }>(options.socket, 'GET', '/networks')
      if (options.json) return console.log(JSON.stringify(networks))
      const rows = networks.map((network) => [
        network.name,
        network.driver,
        network.bridge ?? network.parent ?? '-',
        network.subnets.map(({ subnet }) => subnet).join(',') || (network.addresses ?? '-'),
        String(network.endpoints),
        network.origin,
      ])
      console.log(formatTable(['NAME', 'DRIVER', 'LINK', 'SUBNETS', 'ENDPOINTS', 'ORIGIN'], rows))
    })
}

function inspectNetwork(): Command {
  return new Command('inspect')
    .description('everything about networks, as JSON')
    .argument('<name...>', 'the names of networks')
    .addOption(socketOption())
    .action(async (names: string[], options: Common) => {
      const found: NetworkDetailsView[] = []
      for (const name of names) found.push(await callDaemon(options.socket, 'GET', networkPath(name)))
      console.log(JSON.stringify(found, null, 2))
    })
}

function removeNetwork(): Command {
  return new Command('rm')
    .description('remove networks that have no endpoints')
    .argument('<name...>', 'the names of networks')
    .addOption(socketOption())
    .action(async (names: string[], options: Common) => {
      for (const name of names) {
        await callDaemon(options.socket, 'DELETE', networkPath(name))
        console.log(`network ${name} removed`)
      }
    })
}

interface ConnectOptions extends Common {
  readonly namespace: string
  readonly ip: readonly string[]
  readonly mac?: string
  readonly interfaceName?: string
  readonly publish: readonly string[]
  readonly alias: readonly string[]
}

function connectPod(): Command {
  return new Command('connect')
    .description('give a running pod a link in one more network')
    .argument('<network>', 'the name of the network')
    .argument('<pod>', 'the name of the pod')
    .option('-n, --namespace <namespace>', "the pod's namespace", 'default')
    .option('--ip <ip>', 'an address of its own choice, one per family; may be repeated', collect, [])
    .option('--mac <mac>', 'a MAC address of its own choice')
    .option('--interface-name <name>', 'the name of the link in the pod (default: eth1, eth2, ...)')
    .option('--alias <name>', 'another name for it among the pods of the network; may be repeated', collect, [])
    .option(
      '-p, --publish <port>',
      'lead ports of this machine to the pod by this network; may be repeated',
      collect,
      [],
    )
    .addOption(socketOption())
    .action(async (network: string, name: string, options: ConnectOptions) => {
      const { namespace, ip, mac, interfaceName, publish, alias } = options
      const request: ConnectPodRequest = {
        namespace,
        name,
        ...(ip.length > 0 && { ips: ip }),
        ...(mac !== undefined && { mac }),
        ...(interfaceName !== undefined && { interfaceName }),
        ...(publish.length > 0 && { publish }),
        ...(alias.length > 0 && { aliases: alias }),
      }
      const pod = await callDaemon<PodView>(options.socket, 'POST', `${networkPath(network)}/pods`, request)
      const made = pod.connected.find((connection) => connection.network === network)
      const where = [...(made?.ips ?? []), ...(made?.published ?? [])].join(', ')
      console.log(`pod ${namespace}/${name} is in network ${network}: ${made?.link} ${where}`)
    })
}

function disconnectPod(): Command {
  return new Command('disconnect')
    .description("take a pod's link in a network away; the last one goes with the pod only")
    .argument('<network>', 'the name of the network')
    .argument('<pod>', 'the name of the pod')
    .option('-n, --namespace <namespace>', "the pod's namespace", 'default')
    .addOption(socketOption())
    .action(async (network: string, name: string, { socket, namespace }: ConnectOptions) => {
      const pod = `${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`
      await callDaemon(socket, 'DELETE', `${networkPath(network)}/pods/${pod}`)
      console.log(`pod ${namespace}/${name} is no longer in network ${network}`)
    })
}

function networkPath(name: string): string {
  return `/networks/${encodeURIComponent(name)}`
}

function collect(text: string, texts: readonly string[]): string[] {
  return [...texts, text]
}

function collectPair(text: string, pairs: Readonly<Record<string, string>>): Record<string, string> {
  const [, key, value] = /^([^=]+)=(.*)$/.exec(text) ?? []
  if (key === undefined || value === undefined) throw new UsageError(`${text}: expected KEY=VALUE`, { exitCode: 2 })
  return { ...pairs, [key]: value }
}

function parseNumber(text: string): number {
  if (/^\d+$/.test(text)) return Number(text)
  throw new UsageError(`${text}: expected a whole number`, { exitCode: 2 })
}
