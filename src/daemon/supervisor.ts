import { NotifySocket } from '../linux/notify-socket.ts'
import type { Clock, Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'

/** What systemd told this process about itself in its environment (systemd.exec(5), sd_notify(3), sd_watchdog_enabled(3)). */
export interface ServiceEnvironment {
  /** Where to say how we are; undefined: nobody asked. */
  readonly notifySocket: string | undefined
  /** How long we may be silent before we are stopped, ms; undefined: as long as we like. */
  readonly watchdogMs: number | undefined
  /** Whether we are the main process of a unit. */
  readonly isUnit: boolean
}

/** Reads the variables that are about the process `pid`: children of a service inherit them. */
export function readServiceEnvironment(environment: NodeJS.ProcessEnv, pid: number): ServiceEnvironment {
  const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, SYSTEMD_EXEC_PID } = environment
  const watchdogMs = Number(WATCHDOG_USEC) / 1000
  const watched = WATCHDOG_PID === undefined || WATCHDOG_PID === String(pid)
  return {
    notifySocket: NOTIFY_SOCKET === '' ? undefined : NOTIFY_SOCKET,
    watchdogMs: watched && watchdogMs > 0 ? watchdogMs : undefined,
    isUnit: SYSTEMD_EXEC_PID === String(pid),
  }
}

/** How often a start that takes its time asks for more, and for how much, ms. */
const startStepMs = 10_000
const startMoreMs = 60_000
/** A supervisor whose queue was full is told again after this long, ms. */
const againMs = 1_000

/**
 * Tells the service supervisor where the daemon stands. A start may wait for an API server for as long as that is away: it
 * says what it waits for, and asks for more time for as long as its event loop turns. Then the watchdog looks after that.
 */
export class Supervisor implements Disposable {
  readonly #socket: Pick<NotifySocket, 'send'> & Disposable
  readonly #clock: Clock
  readonly #log: Log
  readonly #watchdogMs: number | undefined
  #beat: Timer | undefined
  #again: Timer | undefined
  #unsent: readonly string[] = []
  #waitingFor: () => readonly string[] = () => ['start']
  #isReady = false

  constructor(options: {
    readonly socket: Pick<NotifySocket, 'send'> & Disposable
    readonly watchdogMs: number | undefined
    readonly clock: Clock
    readonly log: Log
  }) {
    this.#socket = options.socket
    this.#watchdogMs = options.watchdogMs
    this.#clock = options.clock
    this.#log = options.log
    this.#sayStarting()
  }

  /** What the start waits for from now on, as it is asked. */
  follow(waitingFor: () => readonly string[]): void {
    this.#waitingFor = waitingFor
    this.#sayStarting()
  }

  /** The first complete state is in the kernel, and DNS answers. */
  ready(): void {
    this.#beat?.cancel()
    this.#isReady = true
    this.#say(['READY=1', 'STATUS=serving'])
    this.#watch()
  }

  /** The configuration is being read again. Followed by {@link reloaded}. Both say nothing of a daemon that is not ready yet. */
  reloading(): void {
    if (!this.#isReady) return
    // CLOCK_MONOTONIC in µs, which systemd 253 and newer want to see.
    this.#say(['RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`, 'STATUS=reading the configuration'])
  }

  reloaded(): void {
    if (this.#isReady) this.#say(['READY=1', 'STATUS=serving'])
  }

  stopping(): void {
    this.#beat?.cancel()
    this.#say(['STOPPING=1', 'STATUS=stopping; the dataplane stays'])
  }

  [Symbol.dispose](): void {
    this.#beat?.cancel()
    this.#again?.cancel()
    this.#socket[Symbol.dispose]()
  }

  #sayStarting(): void {
    this.#beat?.cancel()
    const waiting = this.#waitingFor()
    this.#say([`STATUS=waiting for ${waiting.join(', ')}`, `EXTEND_TIMEOUT_USEC=${startMoreMs * 1000}`])
    this.#beat = this.#clock.after(startStepMs, () => this.#sayStarting())
  }

  /** Says that the event loop turns, twice in the time that it has for it. */
  #watch(): void {
    if (this.#watchdogMs === undefined) return
    this.#say(['WATCHDOG=1'])
    this.#beat = this.#clock.after(this.#watchdogMs / 2, () => this.#watch())
  }

  #say(assignments: readonly string[]): void {
    // In the order in which it happened: what was refused before goes first.
    const all = [...this.#unsent, ...assignments]
    this.#again?.cancel()
    try {
      this.#socket.send(all)
      this.#unsent = []
    } catch (error) {
      this.#log.warn({ err: error, assignments }, 'the service supervisor cannot be told; trying again')
      // Life signs are worth nothing later.
      this.#unsent = all.filter((text) => !/^(WATCHDOG|EXTEND_TIMEOUT_USEC|STATUS)=/.test(text))
      if (this.#unsent.length > 0) this.#again = this.#clock.after(againMs, () => this.#say([]))
    }
  }
}

/** Undefined where no supervisor asked to be told. Throws RangeError, SyscallError. */
export function openSupervisor(
  environment: ServiceEnvironment,
  options: { readonly clock: Clock; readonly log: Log },
): Supervisor | undefined {
  const { notifySocket, watchdogMs } = environment
  if (notifySocket === undefined) return undefined
  return new Supervisor({ socket: NotifySocket.open(notifySocket), watchdogMs, ...options })
}

/** How often a start is looked at, ms: systemd waits for it, and whoever waits for systemd. */
const lookMs = 50

/** Says READY=1 once the daemon is, and before that what it waits for. */
export function reportReady(
  supervisor: Supervisor,
  {
    status,
    clock,
  }: {
    readonly status: { view(): { readonly ready: boolean; readonly waitingFor: readonly string[] } }
    readonly clock: Clock
  },
): void {
  supervisor.follow(() => status.view().waitingFor)
  const look = (): void => {
    if (status.view().ready) supervisor.ready()
    else clock.after(lookMs, look)
  }
  look()
}
