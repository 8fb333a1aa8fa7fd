import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { defaultConfig, loadConfig } from '../daemon/config.ts'
import { defaultNetnsPrefix } from '../bridge/names.ts'
import { listNetns } from '../linux/netns.ts'
import { formatEvent } from '../daemon/events.ts'
import type { Daemon } from '../daemon/start.ts'
import { readObjects } from './api-objects.ts'
import { applyObject } from './apply-object.ts'
import { checkHello, nodeAddress } from './hello-check.ts'
import { startForeground, stopped, stopSignal } from './foreground.ts'
import { UsageError } from './usage-error.ts'

const example = fileURLToPath(new URL('../../examples/hello/', import.meta.url))
const podNames = ['web-1', 'web-2', 'web-3']
const readyWithinMs = 30_000

/** `fairlead hello`: the example of examples/hello, in the foreground, until Ctrl-C removes it. */
export function helloCommand(): Command {
  return new Command('hello')
    .description('show it all at work: a network, three pods, a Service, its name; Ctrl-C removes every trace')
    .option('--check', 'make the requests too, print a report, tear down, and exit 0 or 1')
    .action(async (options: { check?: boolean }) => {
      refuseBesideDaemonsPods()
      const stop = stopSignal()
      const config = loadConfig(`${example}fairlead.yaml`)
      const daemon = await startForeground(config)
      let ok = true
      try {
        if (!options.check) daemon.events.follow((event) => console.log(formatEvent(event)))
        if (await becomesReady(daemon, stop)) {
          await applyManifests(daemon)
          await startPods(daemon)
        }
        if (stop.aborted) ok = false
        else if (options.check) ok = await checkHello(daemon, podNames, stop)
        else {
          console.log(describe(daemon))
          await stopped(stop)
        }
      } finally {
        console.log('Removing everything from the kernel ...')
        const removed = await daemon.close({ cleanup: true })
        // Its folder, too: another run may be another node's, when the machine got another name.
        rmSync(config.stateDir, { recursive: true, force: true, maxRetries: 3 })
        console.log(`Removed: ${[...removed, config.stateDir].join(', ')}`)
      }
      if (options.check) console.log(ok ? 'check passed' : stop.aborted ? 'check interrupted' : 'check FAILED')
      process.exitCode = ok ? 0 : 1
    })
}

/**
 * The example has a state folder of its own, but there is one kernel: what it does not know it takes for leftovers. So it
 * keeps away from a machine where a daemon left pods behind, even one that is stopped.
 */
function refuseBesideDaemonsPods(): void {
  const folder = join(defaultConfig().stateDir, 'pods')
  const pods = existsSync(folder) ? readdirSync(folder) : []
  // What `fairlead cleanup` took from the kernel may still be in the folder.
  if (pods.length === 0 || !listNetns().some((name) => name.startsWith(defaultNetnsPrefix))) return
  throw new UsageError(
    `pods of a daemon are on this machine (${pods.join(', ')}), and the example would remove them; ` +
      'remove them first with "fairlead pod rm", or everything with "fairlead cleanup"',
  )
}

/** Whether it became ready before it was to stop. Throws UsageError when that takes too long. */
async function becomesReady(daemon: Daemon, stop: AbortSignal): Promise<boolean> {
  try {
    await daemon.whenReady(AbortSignal.any([stop, AbortSignal.timeout(readyWithinMs)]))
    return true
  } catch (error) {
    if (stop.aborted) return false
    const waitingFor = daemon.status().waitingFor.join(', ')
    throw new UsageError(`not ready within ${readyWithinMs / 1000} s, waiting for ${waitingFor}`, { cause: error })
  }
}

/** As `fairlead apply -f` does it. What somebody changed with kubectl in a former run is set right. */
async function applyManifests(daemon: Daemon): Promise<void> {
  const { api } = daemon.status()
  if (!api) throw new UsageError('the example needs its own API')
  for (const object of readObjects([`${example}manifests`], 'default')) {
    await applyObject(object, { socket: api.socket, force: true, dryRun: false })
  }
}

/** Starts the three pods; those that a former run left alive are kept as they are. */
async function startPods(daemon: Daemon): Promise<void> {
  const running = new Set(
    daemon.pods
      .list()
      .filter((pod) => pod.state === 'running')
      .map((pod) => pod.name),
  )
  for (const name of podNames) {
    if (running.has(name)) continue
    if (daemon.pods.list().some((pod) => pod.name === name)) await daemon.pods.remove('default', name)
    await daemon.pods.run({
      namespace: 'default',
      name,
      labels: { app: 'web' },
      network: 'default',
      command: [process.execPath, `${example}server.js`, name, '8080'],
    })
  }
}

function describe(daemon: Daemon): string {
  const status = daemon.status()
  const pods = daemon.pods.list()
  const fairlead = process.env['FAIRLEAD_LAUNCHER'] ?? 'fairlead'
  const dns = status.dns?.addresses[0] ?? ''
  const commands: [string, string][] = [
    ['curl http://10.96.0.80', 'again and again: the answers come from all three'],
    [`curl http://${nodeAddress(daemon)}:30080`, 'by NodePort'],
    [`${fairlead} pod exec web-1 -- curl -s http://web`, 'from a pod, by name'],
    [`dig @${dns} web.default.svc.cluster.local`, ''],
    [`export KUBECONFIG=${status.api?.kubeconfig}`, ''],
    ['kubectl get services,endpointslices', 'the API of Kubernetes: apply, edit, get -w, what you like'],
    [`${fairlead} get services`, 'the same without kubectl'],
    [`${fairlead} status`, ''],
    [`${fairlead} pod rm web-3`, 'then curl again'],
    ['nft list table inet fairlead-services', 'the rules, if nft is installed'],
    ['nft flush ruleset', 'look at the events below: it is put back'],
    [`kill -9 ${process.pid}`, 'then npm start again: nothing is lost or leaked'],
  ]
  const width = Math.max(...commands.map(([command]) => command.length))
  return `
What is there now
  network   ${status.network?.name}: bridge ${status.network?.bridge}, ${status.network?.subnets.join(', ')}
${pods.map((pod) => `  pod       ${pod.name}: ${pod.ips.join(', ')}`).join('\n')}
  Service   default/web: 10.96.0.80:80 and every address of this machine on port 30080 -> the three pods
  API       ${status.api?.url}, for kubectl
  DNS       ${status.dns?.addresses.join(', ')}: web.default.svc.cluster.local, all else forwarded

Try, in another terminal
${commands.map(([command, why]) => `  ${command.padEnd(width)}  ${why && `# ${why}`}`.trimEnd()).join('\n')}

Ctrl-C ends it and removes every trace. Events:`
}
