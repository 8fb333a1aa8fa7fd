/**
 * Keeps connecting to Services, and keeps some connections for long: `storm.ts NEW LONG ADDRESS:PORT...`. What answers must
 * echo. Prints `started` when the long ones are there, and at SIGTERM one line of JSON, a {@link StormReport}.
 */
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** Something that went wrong. */
export interface StormLoss {
  /** Wall times of its begin and its end, ms. */
  readonly at: number
  readonly until: number
  readonly why: string
}

/** What a storm saw. */
export interface StormReport {
  /** New connections that were answered. */
  readonly connects: number
  /** Answers over the long connections. */
  readonly exchanges: number
  /** New connections that were refused, reset or not answered within 5 s. */
  readonly failed: readonly StormLoss[]
  /** Long connections that ended. */
  readonly broken: readonly StormLoss[]
  /** The new connection that took longest, ms. A lost SYN shows here: it is sent again after 1 s. */
  readonly slowestMs: number
}

const answerWithinMs = 5000

/** Sends a byte and waits for it to come back. */
async function echo(socket: Socket): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const timer = setTimeout(() => reject(new Error('silence')), answerWithinMs)
  const fail = (error?: unknown): void => reject(error instanceof Error ? error : new Error('closed'))
  const answered = (): void => resolve()
  const closed = (): void => fail()
  socket.once('data', answered).once('error', fail).once('close', closed)
  socket.write('.')
  try {
    await promise
  } finally {
    clearTimeout(timer)
    socket.off('data', answered).off('error', fail).off('close', closed)
  }
}

function open(target: string): Socket {
  const colon = target.lastIndexOf(':')
  const socket = connect(Number(target.slice(colon + 1)), target.slice(0, colon))
  // Whoever waits for an answer is told too; nobody waits between two answers.
  return socket.on('error', () => {})
}

const [fresh = '4', long = '25', ...targets] = process.argv.slice(2)
const failed: StormLoss[] = []
const broken: StormLoss[] = []
const counts = { connects: 0, exchanges: 0, slowestMs: 0 }
const stop = new AbortController()

async function newConnections(first: number): Promise<void> {
  for (let n = first; !stop.signal.aborted; n++) {
    const target = targets[n % targets.length] ?? ''
    const at = Date.now()
    const socket = open(target)
    try {
      await echo(socket)
      counts.connects++
      counts.slowestMs = Math.max(counts.slowestMs, Date.now() - at)
      socket.end()
    } catch (error) {
      failed.push({ at, until: Date.now(), why: `${target}: ${String(error)}` })
      socket.destroy()
    }
    await sleep(10)
  }
}

async function longConnection(target: string, socket: Socket): Promise<void> {
  while (!stop.signal.aborted) {
    const at = Date.now()
    try {
      await echo(socket)
      counts.exchanges++
    } catch (error) {
      broken.push({ at, until: Date.now(), why: `${target}: ${String(error)}` })
      socket.destroy()
      return
    }
    await sleep(100)
  }
  socket.destroy()
}

process.on('SIGTERM', () => stop.abort())
const kept = await Promise.all(
  Array.from({ length: Number(long) }, async (_, n) => {
    const target = targets[n % targets.length] ?? ''
    const socket = open(target)
    await echo(socket)
    return { target, socket }
  }),
)
console.log('started')
await Promise.all([
  ...Array.from({ length: Number(fresh) }, (_, n) => newConnections(n)),
  ...kept.map(({ target, socket }) => longConnection(target, socket)),
])
const report: StormReport = { ...counts, failed, broken }
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit())
