import { writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { modes } from './proxy-config.ts'
import { countResults, formatCounts, formatResult, type FlowResult } from './report.ts'
import { findCaseFiles, runCases, toolKinds } from './run-cases.ts'

const help = `npm run -s conformance -- --mode MODE [options] PATH...

Runs behaviour cases (*.yaml files, or folders of them) against fairlead with real packets, in network namespaces of their
own. One line per flow: ok, not ok or skip. The last line is "N passed, N failed, N skipped". Needs root.

Options
  --mode MODE       ${modes.join(', ')}
  --json FILE       write the results there too, one object per line
  --jobs N          cases at a time (default: by the number of processors)
  --tools KIND      the iptables tools that the node's kubelet uses: legacy or nft (default: it has none)
  --fairlead PATH   the launcher to try (default: bin/fairlead of this checkout)
  --warm            run one daemon after the other in the same process: for machines where Node starts slowly`

process.exitCode = await main(process.argv.slice(2))

async function main(argv: readonly string[]): Promise<number> {
  let parsed
  try {
    parsed = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        mode: { type: 'string' },
        json: { type: 'string' },
        jobs: { type: 'string' },
        fairlead: { type: 'string' },
        tools: { type: 'string' },
        warm: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (error) {
    return usageError((error as Error).message)
  }
  const { values, positionals } = parsed
  if (values.help) {
    console.log(help)
    return 0
  }
  const mode = modes.find((each) => each === values.mode)
  if (mode === undefined) return usageError(`--mode ${values.mode ?? 'is missing'} (expected ${modes.join(', ')})`)
  if (positionals.length === 0) return usageError('no path given (expected case files or folders)')
  const jobs = values.jobs === undefined ? 3 * availableParallelism() : Number(values.jobs)
  if (!Number.isInteger(jobs) || jobs < 1) return usageError(`--jobs ${values.jobs}: expected a whole number from 1 on`)
  const tools = toolKinds.find((each) => each === values.tools)
  if (tools !== values.tools) return usageError(`--tools ${values.tools}: expected ${toolKinds.join(' or ')}`)
  let files: string[]
  try {
    files = findCaseFiles(positionals)
  } catch (error) {
    return usageError((error as Error).message)
  }
  if (files.length === 0) return usageError(`no case files (*.yaml) in ${positionals.join(' ')}`)
  const launcher = values.fairlead ?? fileURLToPath(new URL('../../bin/fairlead', import.meta.url))
  const fairlead = values.warm ? undefined : launcher
  const show = (results: readonly FlowResult[]): void => {
    for (const result of results) console.log(formatResult(result))
  }
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      // Proxies would outlive this process.
      stop.abort()
      process.exit(130)
    })
  }
  const results = await runCases(files, { mode, tools, jobs, fairlead, signal: stop.signal, onResults: show })
  const counts = countResults(results)
  if (values.json !== undefined)
    writeFileSync(values.json, [...results, counts].map((line) => `${JSON.stringify(line)}\n`).join(''))
  console.log(formatCounts(counts))
  return counts.failed > 0 ? 1 : 0
}

function usageError(message: string): number {
  console.error(`conformance: ${message}\n\n${help}`)
  return 2
}
