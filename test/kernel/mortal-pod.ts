/*
 * The part of the daemon that makes pods, as a process that dies: `mortal-pod.ts OPTIONS`, where OPTIONS is the JSON of
 * MortalPodOptions. It opens networks and pods, waits for a line `go STEPS` on its input, then makes one pod, changes its ports, has
 * it move to another network and removes it, and prints the steps that this took, or dies on the way.
 */
import { failAfter, stepsTaken, uncounted } from './mortal.ts'

/** What the process is told. */
export interface MortalPodOptions {
  /** Path of the namespace that plays the host. */
  readonly netns: string
  readonly stateDir: string
  readonly netnsPrefix: string
  readonly command: readonly string[]
}

const { createInterface } = await import('node:readline/promises')
const { openNetns } = await import('../../src/linux/netns.ts')
const { parsePublish } = await import('../../src/bridge/publication.ts')
const { parseWithdraw } = await import('../../src/bridge/withdraw-ports.ts')
const { openBridgePart } = await import('./bridge-part.ts')

const options = JSON.parse(process.argv[2] ?? '') as MortalPodOptions
for await (const line of createInterface(process.stdin)) {
  using netns = openNetns(options.netns)
  await using part = await openBridgePart({ ...options, netns })
  failAfter(Number(line))
  await part.pods.run({
    namespace: 'default',
    name: 'p',
    labels: {},
    network: 'default',
    command: options.command,
    publish: ['8080:80', '127.0.0.1:5353:53/udp'].map(parsePublish),
  })
  const pod = { namespace: 'default', name: 'p' }
  const [publish, withdraw] = [['127.0.0.1:8081:80'].map(parsePublish), ['8080'].map(parseWithdraw)]
  await part.pods.changePorts(pod, { publish, withdraw })
  await uncounted(() => part.pods.connect(pod, { network: 'other', aliases: ['www'] }))
  await part.pods.disconnect(pod, 'default')
  await part.pods.remove('default', 'p')
  failAfter(Infinity)
  process.stdout.write(`${JSON.stringify(stepsTaken())}\n`)
  break
}
process.exit(0)
