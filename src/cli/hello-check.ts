import { execFile } from 'node:child_process'
import { Resolver } from 'node:dns/promises'
import type { Daemon } from '../daemon/start.ts'
import { checkHelloApi } from './hello-api-check.ts'

/** One way to reach the pods. */
interface Way {
  readonly name: string
  readonly url: string
  /** Names of the pods that must answer, each at least once. */
  readonly expected: readonly string[]
  /** `pod exec` prefix; empty: from the node. */
  readonly from: readonly string[]
  /** `--resolve` for curl where the caller's own resolver does not know cluster names. */
  readonly resolve?: string
}

/** Requests until every expected pod answered; with 3 pods at random, 60 tries miss one with a chance of 1 in 10^10. */
const maxTries = 60
/** A way that does not work is given up after this time, ms. */
const patienceMs = 10_000

/**
 * Makes the requests that the example promises: each pod by IP, all of them by cluster IP, NodePort and name, from a pod
 * and from the node. Prints a line each; returns whether all succeeded.
 */
export async function checkHello(daemon: Daemon, podNames: readonly string[], stop: AbortSignal): Promise<boolean> {
  let ok = await checkHelloApi(daemon)
  for (const way of await ways(daemon, podNames)) {
    const start = performance.now()
    const seen = new Map<string, number>()
    let failure = ''
    for (let i = 0; i < maxTries && !way.expected.every((name) => seen.has(name)); i++) {
      if (stop.aborted) return false
      if (performance.now() - start > patienceMs) break
      const answer = await curl(way)
      if (answer.pod === undefined) {
        failure = answer.failure
        // A pod's server may still be starting.
        await new Promise((resolve) => setTimeout(resolve, 100))
      } else seen.set(answer.pod, (seen.get(answer.pod) ?? 0) + 1)
    }
    const good =
      way.expected.every((name) => seen.has(name)) && [...seen.keys()].every((name) => way.expected.includes(name))
    ok &&= good
    const answers = way.expected.flatMap((name) => (seen.has(name) ? [`${name} x${seen.get(name)}`] : []))
    const ms = (performance.now() - start).toFixed(0)
    const why = good || failure === '' ? '' : `; last failure: ${failure}`
    console.log(`${good ? 'ok    ' : 'NOT OK'} ${way.name}: ${answers.join(', ') || 'no answer'} (${ms} ms)${why}`)
  }
  return ok
}

async function ways(daemon: Daemon, podNames: readonly string[]): Promise<Way[]> {
  const pods = daemon.pods.list().filter((pod) => podNames.includes(pod.name))
  const client = podNames[0] ?? ''
  const inPod = await daemon.pods.exec('default', client)
  const dns = daemon.status().dns?.addresses[0] ?? ''
  const fqdn = 'web.default.svc.cluster.local'
  const byName = await resolveWith(dns, fqdn)
  const nodePort = `http://${nodeAddress(daemon)}:30080/`
  const result: Way[] = []
  for (const [where, from] of [
    [`pod ${client}`, inPod],
    ['node', []],
  ] as const) {
    for (const pod of pods) {
      for (const ip of pod.ips) {
        const host = ip.includes(':') ? `[${ip}]` : ip
        result.push({
          name: `${where} -> pod ${pod.name} at ${ip}`,
          url: `http://${host}:8080/`,
          expected: [pod.name],
          from,
        })
      }
    }
    result.push({ name: `${where} -> cluster IP 10.96.0.80`, url: 'http://10.96.0.80/', expected: podNames, from })
    result.push({ name: `${where} -> NodePort ${nodePort}`, url: nodePort, expected: podNames, from })
  }
  result.push({ name: `pod ${client} -> http://web (by name)`, url: 'http://web/', expected: podNames, from: inPod })
  result.push({
    name: `node -> http://${fqdn} (asked of ${dns}: ${byName})`,
    url: `http://${fqdn}/`,
    expected: podNames,
    from: [],
    resolve: `${fqdn}:80:${byName}`,
  })
  return result
}

async function resolveWith(server: string, name: string): Promise<string> {
  const resolver = new Resolver({ timeout: 2000, tries: 2 })
  resolver.setServers([server])
  try {
    return (await resolver.resolve4(name))[0] ?? '0.0.0.0'
  } catch (error) {
    console.log(`NOT OK ${name} asked of ${server}: ${(error as Error).message}`)
    return '0.0.0.0'
  }
}

function curl(way: Way): Promise<{ pod: string } | { pod: undefined; failure: string }> {
  const argv = [
    ...way.from,
    'curl',
    '-sS',
    '--max-time',
    '3',
    ...(way.resolve ? ['--resolve', way.resolve] : []),
    way.url,
  ]
  return new Promise((resolve) => {
    execFile(argv[0] ?? '', argv.slice(1), { timeout: 10_000 }, (error, stdout, stderr) => {
      const pod = /^hello from (\S+)/.exec(stdout)?.[1]
      resolve(
        pod === undefined
          ? { pod, failure: stderr.trim() || error?.message || `unexpected answer: ${stdout}` }
          : { pod },
      )
    })
  })
}

/** The address of this machine that the example shows: the bridge's own, which every machine has. */
export function nodeAddress(daemon: Daemon): string {
  return daemon.status().network?.gateways[0] ?? '127.0.0.1'
}
