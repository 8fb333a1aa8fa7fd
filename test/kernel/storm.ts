/**
 * Keeps asking a URL over new connections, and over some that stay: `storm.ts URL NEW LONG`. Prints `started`, and at SIGTERM
 * one line of JSON with what went wrong. A refused or silent connection, and a long one that breaks, each count.
 */
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const [url = '', fresh = '8', long = '10'] = process.argv.slice(2)
const counts = { connects: 0, requests: 0, failed: [] as string[], broken: [] as string[] }
const stop = new AbortController()

/** One GET; rejects after 3 s. With an agent that keeps one socket alive, `reused` says whether it did. */
function get(agent: Agent | false): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { agent, timeout: 3000 }, (response) => {
      response.resume().on('end', () => resolve(asked.reusedSocket))
    })
    asked.on('timeout', () => asked.destroy(new Error('silence')))
    asked.on('error', reject)
    asked.end()
  })
}

async function newConnections(): Promise<void> {
  while (!stop.signal.aborted) {
    try {
      await get(false)
      counts.connects++
    } catch (error) {
      counts.failed.push(String(error))
    }
    await sleep(2)
  }
}

async function longConnection(): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  for (let n = 0; !stop.signal.aborted; n++) {
    try {
      const reused = await get(agent)
      if (n > 0 && !reused) counts.broken.push('the connection was made anew')
      counts.requests++
    } catch (error) {
      counts.broken.push(String(error))
    }
    await sleep(20)
  }
  agent.destroy()
}

const loops = [
  ...Array.from({ length: Number(fresh) }, newConnections),
  ...Array.from({ length: Number(long) }, longConnection),
]
process.on('SIGTERM', () => stop.abort())
await sleep(300)
console.log('started')
await Promise.all(loops)
const first = (list: readonly string[]): string => list.slice(0, 3).join('; ')
console.log(
  JSON.stringify({
    ...counts,
    failed: counts.failed.length,
    broken: counts.broken.length,
    why: first([...counts.failed, ...counts.broken]),
  }),
)
