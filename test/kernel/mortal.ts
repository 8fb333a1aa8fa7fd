import childProcess from 'node:child_process'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import koffi from 'koffi'
import { RawNetlinkSocket } from 'netlink'
import { splitMessages, type NetlinkMessage } from '../../src/netlink/message.ts'

/*
 * A counter below everything that a process does to the world: netlink messages, system calls of libc, writes to files,
 * processes that are started and signals that are sent. Import it before anything else. A step is one such call; a datagram
 * of rtnetlink has a step for each of its messages, and a write has one in its midst.
 */

/** Step at which the process dies; Infinity: it counts only. */
let deadline = Infinity
let count = 0
let armed = false
const names: string[] = []
const kill = process.kill.bind(process)

/** From now on, steps are counted, and the process kills itself (SIGKILL) when it is about to take step number `steps`. */
export function failAfter(steps: number): void {
  deadline = steps
  count = 0
  armed = true
}

/** Does work whose steps do not count, for they are those of other work that is tried already. */
export async function uncounted(work: () => Promise<unknown>): Promise<void> {
  armed = false
  await work()
  armed = true
}

/** The steps that were taken, in words. */
export function stepsTaken(): readonly string[] {
  return names
}

function step(name: string): void {
  if (!armed) return
  if (count >= deadline) die()
  count++
  names.push(name)
}

function die(): never {
  kill(process.pid, 'SIGKILL')
  // The signal is delivered before the call returns.
  throw new Error('still alive')
}

type AnyFunction = (this: unknown, ...args: never[]) => unknown

function counting<T extends object>(
  target: T,
  keys: readonly (keyof T & string)[],
  isStep: (...args: never[]) => boolean = () => true,
): void {
  for (const key of keys) {
    const original = target[key] as AnyFunction
    const wrapped: AnyFunction = function (...args) {
      if (isStep(...args)) step(`${key} ${describe(args[0])}`)
      return original.apply(this, args)
    }
    Object.assign(target, { [key]: wrapped })
  }
}

function describe(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}

counting(fs, ['mkdirSync', 'renameSync', 'rmSync', 'unlinkSync', 'fsyncSync'])
counting(
  fs,
  ['openSync'],
  (path: unknown, flags: string | number = 'r') =>
    !describe(path).startsWith('/proc/') && typeof flags === 'string' && /[wa+]/.test(flags),
)
counting(childProcess, ['spawn'])
counting(process, ['kill'])

const { writeFileSync } = fs
fs.writeFileSync = (file, data, options) => {
  step(`write ${describe(file)}`)
  // A setting of the kernel is never half written.
  if (!describe(file).startsWith('/proc/')) {
    if (armed && count >= deadline && typeof data === 'string') {
      writeFileSync(file, data.slice(0, data.length / 2), options)
      die()
    }
    step('the second half of it')
  }
  writeFileSync(file, data, options)
}
syncBuiltinESMExports()

/** The journal's writes; the class of file handles has no name to be imported by. */
const handle = await fs.promises.open('/dev/null')
const fileHandles = Object.getPrototypeOf(handle) as fs.promises.FileHandle
// oxlint-disable-next-line typescript/unbound-method -- called with its `this` below
const { appendFile } = fileHandles
fileHandles.appendFile = async function (data, options) {
  step('append to a file')
  if (armed && count >= deadline && typeof data === 'string') {
    await appendFile.call(this, data.slice(0, data.length / 2), options)
    die()
  }
  step('the second half of it')
  await appendFile.call(this, data, options)
}
await handle.close()

/** libc's functions that change something. setns() moves only this thread. */
const changing = /^int (unshare|mount|umount2)\(/
const load = koffi.load.bind(koffi)
Object.assign(koffi, {
  load(path: string) {
    const library = load(path)
    const func = library.func.bind(library) as (prototype: string) => AnyFunction
    return {
      func(prototype: string): AnyFunction {
        const original = func(prototype)
        if (prototype.startsWith('int64_t send(')) return dyingSend(original)
        const [, name] = changing.exec(prototype) ?? []
        if (name === undefined) return original
        return (...args) => {
          step(`${name} ${describe(args[1])}`)
          return original(...args)
        }
      },
    }
  },
})

/** NFNL_MSG_BATCH_BEGIN with its struct nfgenmsg: all of such a datagram is done, or nothing. RTM_NEWLINK has its number. */
const isBatch = ({ type, payload }: NetlinkMessage): boolean => type === 16 && payload.length < 16

/** RTM_GETLINK and the like (every fourth from 18 on), and what is asked of nf_tables and conntrack outside of a batch. */
function isQuestion({ type }: NetlinkMessage): boolean {
  if (type < 256) return type % 4 === 2
  const [nfTables, conntrackGet] = [10, 0x101]
  return type >> 8 === nfTables || type === conntrackGet
}

/** A step for each message that changes something. When the process dies in their midst, the kernel has worked on those before. */
function countMessages(datagram: Buffer, sendPart: (part: Buffer) => void): void {
  if (!armed) return
  const messages = splitMessages(datagram)
  if (messages.some(isBatch)) return step(`nftables transaction of ${messages.length} messages`)
  let end = 0
  for (const message of messages) {
    if (!isQuestion(message)) {
      if (count >= deadline) {
        if (end > 0) sendPart(datagram.subarray(0, end))
        die()
      }
      step(`netlink message of type ${message.type}`)
    }
    end += (16 + message.payload.length + 3) & ~3
  }
}

/** send(2) of libc, which another thread may call: the process then goes on, and can die while the kernel works on it. */
function dyingSend(original: AnyFunction): AnyFunction {
  const { async: sendInPool } = original as unknown as { async: (...args: unknown[]) => void }
  const wrapped: AnyFunction = (...args) => original(...args)
  return Object.assign(wrapped, {
    async(fd: number, datagram: Buffer, length: number, flags: number, done: unknown) {
      countMessages(datagram, (part) => original(...([fd, part, part.length, flags] as never[])))
      sendInPool.call(original, fd, datagram, length, flags, done)
    },
  })
}

const rawSockets = RawNetlinkSocket.prototype
// oxlint-disable-next-line typescript/unbound-method -- called with its `this` below
const { send } = rawSockets
rawSockets.send = function (this: RawNetlinkSocket, datagram: Buffer, ...rest: never[]) {
  countMessages(datagram, (part) => send.call(this, part, ...rest))
  return send.call(this, datagram, ...rest)
}
