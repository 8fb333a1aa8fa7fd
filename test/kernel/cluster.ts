import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { Machine, runToEnd, sleep, type Ran } from './machine.ts'
import { patience } from '../lab/patience.ts'

/** Where machine number `i` of the LAN is. */
export const lanAddress = (i: number): string => `10.77.0.${i}`
export const lanAddress6 = (i: number): string => `fd99::${i}`

/** Machines on one LAN, a bridge in a namespace of its own where `outside` (10.77.0.254, fd99::254) is. Disposing ends all. */
export class Cluster implements AsyncDisposable {
  readonly machines: readonly Machine[]
  readonly #lan: ChildProcess

  private constructor(machines: readonly Machine[], lan: ChildProcess) {
    this.machines = machines
    this.#lan = lan
  }

  static async create(count: number): Promise<Cluster> {
    const script = `
      ip link set lo up && ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up
      ip addr add 10.77.0.254/24 dev br0 && ip addr add fd99::254/64 dev br0 nodad
      echo ready
      exec sleep 100000`
    const lan = spawn('unshare', ['--net', 'sh', '-ec', script], { stdio: ['ignore', 'pipe', 'inherit'] })
    await Promise.race([once(lan.stdout, 'data'), once(lan, 'exit').then(() => Promise.reject(new Error('no LAN')))])
    const machines: Machine[] = []
    const cluster = new Cluster(machines, lan)
    try {
      for (let i = 1; i <= count; i++) {
        const machine = await Machine.create()
        machines.push(machine)
        const plug = `
          ip link add lan0 type veth peer name port${i} netns ${lan.pid}
          ip addr add ${lanAddress(i)}/24 dev lan0 && ip addr add ${lanAddress6(i)}/64 dev lan0 nodad && ip link set lan0 up`
        await succeed(machine.run('sh', '-ec', plug))
        await succeed(cluster.outside('sh', '-ec', `ip link set port${i} master br0 && ip link set port${i} up`))
      }
    } catch (error) {
      await cluster[Symbol.asyncDispose]()
      throw error
    }
    return cluster
  }

  /** Runs a command outside of the machines, on their LAN. */
  outside(...argv: readonly string[]): Promise<Ran> {
    return runToEnd(['nsenter', `--target=${this.#lan.pid}`, '--net', '--', ...argv])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.machines.map((machine) => machine[Symbol.asyncDispose]()))
    this.#lan.kill('SIGKILL')
  }
}

/** What a command printed. Throws when it failed. */
export async function succeed(running: Promise<Ran>): Promise<string> {
  const { code, stdout, stderr } = await running
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr}${stdout}`)
  return stdout
}

/** Tries until `what` throws no more; then gives its result. Throws its last error after `seconds`. */
export async function eventually<T>(what: () => Promise<T>, seconds = 40): Promise<T> {
  const deadline = Date.now() + patience(seconds * 1000)
  for (;;) {
    try {
      return await what()
    } catch (error) {
      if (Date.now() > deadline) throw error
      await sleep(100)
    }
  }
}
