import { basename } from 'node:path'
import { ipvsLimits } from '../../src/proxy-ipvs/ipvs-limits.ts'
import type { Flow, FlowCase } from './flow-case.ts'
import type { Mode } from './proxy-config.ts'

/** Flows that fail by what a mode's probe names. They are tried, and when they fail they count as skipped. */
interface Known {
  readonly file: string
  readonly flow: RegExp
  readonly limit: string
}

const { affinityByAddress, affinityLingers, otherPorts, udpPolicy } = ipvsLimits

const known: Partial<Record<Mode, readonly Known[]>> = {
  ipvs: [
    {
      file: 'affinity-all-addresses',
      flow: / at the (external|load balancer|cluster) IP$| at the node port$/,
      limit: affinityByAddress,
    },
    { file: 'affinity-scope-service', flow: /^the pod at the second port/, limit: affinityByAddress },
    { file: 'session-affinity', flow: /^one connection every three seconds$/, limit: affinityLingers },
    { file: 'udp-flows-policy', flow: /^external client$/, limit: udpPolicy },
    { file: 'load-balancer-addresses', flow: /^another port of it$/, limit: otherPorts },
  ],
}

/** The limit of the mode that explains why the flow fails; undefined: nothing does. */
export function knownLimit(
  mode: Mode,
  { file }: Pick<FlowCase, 'file'>,
  { name }: Pick<Flow, 'name'>,
): string | undefined {
  const found = known[mode]?.find((each) => each.file === basename(file, '.yaml') && each.flow.test(name))
  return found && `mode ${mode}: ${found.limit}`
}
