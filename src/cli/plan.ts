import { existsSync } from 'node:fs'
import { hostname } from 'node:os'
import { Command } from 'commander'
import { planManifests } from '../daemon/plan.ts'
import { parseNetwork } from '../net/cidr.ts'
import { ParseError } from '../net/parse-error.ts'
import { UsageError } from './usage-error.ts'

interface PlanOptions {
  readonly nodeName: string
  readonly clusterCidr: readonly string[]
  readonly kernel?: boolean
  readonly json?: boolean
}

/** `fairlead plan`: exits 1 when a manifest cannot be used. */
export function planCommand(): Command {
  return new Command('plan')
    .description('the rules that manifests would make; touches nothing (exit code 1 when a manifest cannot be used)')
    .argument('<path...>', 'files or folders of manifests')
    .option('--node-name <name>', 'endpoints with this nodeName are local', hostname())
    .option('--cluster-cidr <cidr...>', 'addresses of pods: traffic from them keeps its source address', [])
    .option('--kernel', 'print only what differs from the rules that are in the kernel now (needs root)')
    .option('--json', 'print as JSON')
    .action(async (paths: string[], options: PlanOptions) => {
      for (const path of paths)
        if (!existsSync(path)) throw new UsageError(`${path}: no such file or folder`, { exitCode: 2 })
      if (options.kernel && process.getuid?.() !== 0)
        throw new UsageError('--kernel needs root: only root may read the rules')
      const plan = await planManifests(paths, {
        nodeName: options.nodeName,
        clusterCIDRs: options.clusterCidr.map(parseCidrFlag),
        againstKernel: options.kernel ?? false,
      })
      if (options.json) console.log(JSON.stringify(plan))
      else {
        for (const line of plan.lines) console.log(line)
        for (const problem of plan.problems) console.error(`! ${problem}`)
        console.error(
          `${plan.services} Services: ${plan.elements} elements and ${plan.rules} rules ${options.kernel ? 'differ' : 'in all'}`,
        )
      }
      process.exitCode = plan.problems.length > 0 ? 1 : 0
    })
}

function parseCidrFlag(text: string): ReturnType<typeof parseNetwork> {
  try {
    return parseNetwork(text)
  } catch (error) {
    if (error instanceof ParseError) throw new UsageError(`--cluster-cidr: ${error.message}`, { exitCode: 2 })
    throw error
  }
}
