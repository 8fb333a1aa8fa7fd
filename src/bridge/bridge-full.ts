import type { Log } from '../base/log.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'

/** Ports that a bridge can have (BR_MAX_PORTS is 1 << 10, and number 0 is not used). */
export const maxPorts = 1023

/** From this many ports on, people are warned: 80 %. */
const manyPorts = Math.ceil(0.8 * maxPorts)

/** What to tell people of a network that has nearly as many endpoints as it can have; undefined while there is room. */
export function fullness(
  network: { readonly name: string; readonly bridge: string },
  endpoints: number,
): string | undefined {
  if (endpoints < manyPorts) return undefined
  const { name, bridge } = network
  return `network ${name}: ${endpoints} of ${maxPorts} ports of bridge ${bridge} are in use (put new pods on another network)`
}

/** Tells the log of networks that are nearly full: once, until there is room again. */
export class FullnessTeller {
  readonly #log: Log
  readonly #told = new Set<string>()

  constructor(log: Log) {
    this.#log = log
  }

  note(network: { readonly name: string; readonly bridge: string }, endpoints: number): void {
    const { name } = network
    const problem = fullness(network, endpoints)
    if (problem === undefined) this.#told.delete(name)
    else if (!this.#told.has(name)) {
      this.#told.add(name)
      this.#log.warn({ network: name }, `Nearly full: ${problem}`)
    }
  }
}

/** A bridge that takes no more ports. */
export class BridgeFullError extends Error {
  override readonly name = 'BridgeFullError'
}

/** The error that making a port ended with, as a {@link BridgeFullError} when that is what it means. */
export function explainFull(bridge: string, error: unknown): unknown {
  if (!isNetlinkError(error, 'EXFULL')) return error
  const message = `bridge ${bridge} has ${maxPorts} ports, as many as a bridge can have (use another network: fairlead network create)`
  return new BridgeFullError(message, { cause: error })
}
