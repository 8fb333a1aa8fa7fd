import type { Flow } from './flow-case.ts'
import type { Mode } from './proxy-config.ts'

/** What a mode's probe says it cannot do. */
export interface ModeLimit {
  readonly reason: string
  /** The flow without that: the mode must still do the rest. */
  readonly rest: Flow
}

/** Undefined: the mode can do all of the flow. */
export function modeLimit(mode: Mode, flow: Flow): ModeLimit | undefined {
  if (mode !== 'userspace' || flow.masquerade !== false) return undefined
  const { masquerade, ...rest } = flow
  const reason =
    'mode userspace: endpoints see an address of this node, never the client\u2019s (all else is as expected)'
  return { reason, rest: { ...rest, masquerade: undefined } }
}
