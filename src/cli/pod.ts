import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { Command } from 'commander'
import { publishedOf } from '../daemon/control-api.ts'
import type { ExecSpec, PodPortsBody, PodRequest, PodView } from '../daemon/control-api.ts'
import { callDaemon } from './control-client.ts'
import { podLogs } from './pod-logs.ts'
import { readinessOptions, readReadiness, type ReadinessFlags } from './readiness-options.ts'
import { socketOption } from './socket-option.ts'
import { formatTable } from './table.ts'
import { UsageError } from './usage-error.ts'

/** `fairlead pod run|ls|exec|logs|publish|unpublish|rm` */
export function podCommand(): Command {
  return new Command('pod')
    .enablePositionalOptions()
    .description('commands in network namespaces of their own, on the bridge')
    .addCommand(runPod())
    .addCommand(listPods())
    .addCommand(execPod())
    .addCommand(podLogs())
    .addCommand(publishPorts())
    .addCommand(unpublishPorts())
    .addCommand(removePod())
}

interface Common {
  readonly socket: string
  readonly namespace: string
  readonly json?: boolean
}

interface RunOptions extends Common, ReadinessFlags {
  readonly label: Record<string, string>
  readonly network: string
  readonly publish: readonly string[]
  readonly ip: readonly string[]
  readonly mac?: string
  readonly alias: readonly string[]
}

function runPod(): Command {
  return readinessOptions(new Command('run'))
    .description('start a command as a pod')
    .argument('<name>', 'the name of the pod')
    .argument('[command...]', 'what to run; nothing: the pod has a network, and "pod exec" runs things in it')
    .option('-l, --label <key=value>', 'a label, for the selectors of Services; may be repeated', collectLabel, {})
    .option('-N, --network <name>', "the network to join; host: the machine's own, none: no link", 'default')
    .option('--ip <ip>', 'an address of its own choice, one per family; may be repeated', collect, [])
    .option('--mac <mac>', 'a MAC address of its own choice')
    .option('--alias <name>', 'another name for it among the pods of the network; may be repeated', collect, [])
    .option(
      '-p, --publish <port>',
      'lead [HOST-IP:][HOST-PORT]:PORT[/udp] of this machine to the pod; may be repeated, and have ranges',
      collect,
      [],
    )
    .option('-n, --namespace <namespace>', 'the namespace', 'default')
    .addOption(socketOption())
    .option('--json', 'print the pod as JSON')
    .addHelpText(
      'after',
      `
Examples:
  fairlead pod run web-1 --label app=web -- node server.js
  fairlead pod run web-1 --label app=web --readiness-http /healthz:8080 -- node server.js
  fairlead pod run web-2 --publish 8080:80 -p 127.0.0.1::9090 -- node server.js
  fairlead pod run shell && fairlead pod exec shell -- sh`,
    )
    .action(async (name: string, command: string[], options: RunOptions) => {
      const readinessProbe = readReadiness(options)
      const request: PodRequest = {
        namespace: options.namespace,
        name,
        labels: options.label,
        network: options.network,
        command,
        publish: options.publish,
        ...(options.ip.length > 0 && { ips: options.ip }),
        ...(options.mac !== undefined && { mac: options.mac }),
        ...(options.alias.length > 0 && { aliases: options.alias }),
        ...(readinessProbe && { readinessProbe }),
      }
      const pod = await callDaemon<PodView>(options.socket, 'POST', '/pods', request)
      const where = [...pod.ips, ...pod.published].join(', ') || 'no address'
      console.log(options.json ? JSON.stringify(pod) : `pod ${pod.namespace}/${pod.name} ${pod.state}: ${where}`)
    })
}

function listPods(): Command {
  return new Command('ls')
    .description('list the pods of this machine')
    .addOption(socketOption())
    .option('--json', 'print as JSON')
    .action(async (options: Common) => {
      const { pods } = await callDaemon<{ pods: PodView[] }>(options.socket, 'GET', '/pods')
      if (options.json) return console.log(JSON.stringify(pods))
      const rows = pods.map((pod) => [
        pod.namespace,
        pod.name,
        [pod, ...pod.connected].flatMap(({ ips }) => ips).join(',') || '-',
        publishedOf(pod).join(',') || '-',
        pod.state,
        pod.ready ? 'yes' : 'no',
        String(pod.pid ?? '-'),
        Object.entries(pod.labels)
          .map(([key, value]) => `${key}=${value}`)
          .join(','),
      ])
      console.log(formatTable(['NAMESPACE', 'NAME', 'ADDRESSES', 'PUBLISHED', 'STATE', 'READY', 'PID', 'LABELS'], rows))
    })
}

function execPod(): Command {
  return new Command('exec')
    .description('run a command in a pod: its network, its /etc/resolv.conf')
    .argument('<name>', 'the name of the pod')
    .argument('<command...>', 'what to run')
    .option('-n, --namespace <namespace>', 'the namespace', 'default')
    .addOption(socketOption())
    .passThroughOptions()
    .action(async (name: string, command: string[], options: Common) => {
      const { argv } = await callDaemon<ExecSpec>(options.socket, 'GET', `${podPath(options.namespace, name)}/exec`)
      // The words after the name are passed on as they are, a separating -- included.
      const words = command[0] === '--' ? command.slice(1) : command
      const [program = '', ...rest] = [...argv, ...words]
      process.exitCode = await runHere(program, rest)
    })
}

/** Runs a program in the place of this one: same terminal, same signals. Resolves to its exit code, as shells have it. */
function runHere(program: string, args: readonly string[]): Promise<number> {
  const child = spawn(program, args, { stdio: 'inherit' })
  // The terminal's Ctrl-C reaches the program by itself, and it may go on; other signals come to us alone.
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.on(signal, () => {})
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(new UsageError(`cannot run ${program}: ${error.message}`, { cause: error })))
    child.once('exit', (code, signal) => resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)))
  })
}

function publishPorts(): Command {
  return new Command('publish')
    .description('lead ports of this machine to a running pod')
    .argument('<name>', 'the name of the pod')
    .argument('<port...>', '[HOST-IP:][HOST-PORT]:PORT[/udp], with ranges as in "pod run --publish"')
    .option('-N, --network <name>', 'by which of its networks (default: the first)')
    .option('-n, --namespace <namespace>', 'the namespace', 'default')
    .addOption(socketOption())
    .option('--json', 'print the pod as JSON')
    .action(async (name: string, publish: string[], options: PortOptions) => {
      await changePorts(name, { publish }, options)
    })
}

function unpublishPorts(): Command {
  return new Command('unpublish')
    .description('end what "publish" began; connections that came by the ports end, too')
    .argument('<name>', 'the name of the pod')
    .argument('<port...>', '[HOST-IP:]HOST-PORT[/udp], or as "pod ls" shows it')
    .option('-N, --network <name>', 'of which of its networks (default: the one that has the port)')
    .option('-n, --namespace <namespace>', 'the namespace', 'default')
    .addOption(socketOption())
    .option('--json', 'print the pod as JSON')
    .action(async (name: string, unpublish: string[], options: PortOptions) => {
      await changePorts(name, { unpublish }, options)
    })
}

interface PortOptions extends Common {
  readonly network?: string
}

async function changePorts(name: string, ports: PodPortsBody, options: PortOptions): Promise<void> {
  const { socket, namespace, network, json } = options
  const body: PodPortsBody = { ...ports, ...(network !== undefined && { network }) }
  const pod = await callDaemon<PodView>(socket, 'POST', `${podPath(namespace, name)}/ports`, body)
  console.log(
    json ? JSON.stringify(pod) : `pod ${namespace}/${name}: ${publishedOf(pod).join(', ') || 'no published ports'}`,
  )
}

function removePod(): Command {
  return new Command('rm')
    .description('stop a pod and take its network away')
    .argument('<name...>', 'the names of pods')
    .option('-n, --namespace <namespace>', 'the namespace', 'default')
    .addOption(socketOption())
    .action(async (names: string[], options: Common) => {
      for (const name of names) {
        await callDaemon(options.socket, 'DELETE', podPath(options.namespace, name))
        console.log(`pod ${options.namespace}/${name} removed`)
      }
    })
}

function podPath(namespace: string, name: string): string {
  return `/pods/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`
}

function collect(text: string, others: readonly string[]): readonly string[] {
  return [...others, text]
}

function collectLabel(text: string, labels: Record<string, string>): Record<string, string> {
  const [, key, value] = /^([^=]+)=(.*)$/.exec(text) ?? []
  if (key === undefined || value === undefined) {
    throw new UsageError(`--label ${text}: expected KEY=VALUE, like app=web`, { exitCode: 2 })
  }
  return { ...labels, [key]: value }
}
