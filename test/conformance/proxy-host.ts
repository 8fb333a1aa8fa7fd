import { openSync } from 'node:fs'
import { readConfig, type RunOptions } from '../../src/cli/run.ts'
import { startForeground } from '../../src/cli/foreground.ts'
import type { Daemon } from '../../src/daemon/start.ts'
import { CLONE_NEWNET, setns } from '../../src/linux/libc.ts'

/*
 * A process that runs `fairlead run` for one node after the other. Where Node starts slowly (an emulated machine: five seconds and
 * more), cases take a fraction of the time. Each daemon is made, and closed, as the program does it; this thread moves into the
 * node's network namespace before, as every process of a node is in one.
 */

/** What the process is told. */
export type HostCall =
  | { readonly kind: 'start'; readonly netns: string; readonly options: RunOptions }
  | { readonly kind: 'stop' }

/** What it answers, once for each call. */
export interface HostReply {
  readonly error?: string
}

const home = openSync('/proc/self/ns/net', 'r')
let daemon: Daemon | undefined

process.on('message', (call: HostCall) => {
  work(call).then(
    () => process.send?.({} satisfies HostReply),
    (error: unknown) => {
      setns(home, CLONE_NEWNET)
      process.send?.({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    },
  )
})
process.on('disconnect', () => process.exit(0))

async function work(call: HostCall): Promise<void> {
  switch (call.kind) {
    case 'start':
      setns(openSync(call.netns, 'r'), CLONE_NEWNET)
      daemon = await startForeground(readConfig(call.options))
      return
    case 'stop':
      await daemon?.close({ cleanup: false })
      daemon = undefined
      setns(home, CLONE_NEWNET)
      return
    default:
      return call satisfies never
  }
}
