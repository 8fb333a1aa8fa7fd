import { readFileSync } from 'node:fs'
import type { MachineFacts } from './machine.ts'
import type { BenchOptions } from './options.ts'
import type { SuiteResult } from './recorder.ts'
import { BenchUsageError } from './usage-error.ts'

/** The version of the shape of results.json: another one when a reader of the old one would misunderstand. */
export const resultsSchema = 'fairlead-bench/1'

/** A whole run, as it is in results.json (bench/README.md describes it for readers of other languages). */
export interface BenchResults {
  readonly schema: typeof resultsSchema
  readonly fairlead: string
  readonly machine: MachineFacts
  readonly options: BenchOptions
  /** Modes of the run that this machine does not have, with the reason. */
  readonly missingModes: Readonly<Record<string, string>>
  /** The rule by which rounds were dropped. */
  readonly dropRule: { readonly steal: number; readonly foreign: number }
  readonly tookMs: number
  readonly suites: readonly SuiteResult[]
}

/** Reads the results of another run. Throws {@link BenchUsageError}. */
export function readResults(file: string): BenchResults {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new BenchUsageError(`cannot read ${file}: ${(error as Error).message}`, { cause: error })
  }
  const { schema } = (value ?? {}) as { schema?: unknown }
  if (schema !== resultsSchema) {
    const found = typeof schema === 'string' ? `schema ${schema}` : 'no schema'
    throw new BenchUsageError(`${file}: ${found} (expected ${resultsSchema}, a results.json of this version)`)
  }
  const wrong = whatIsWrong(value as Partial<BenchResults>)
  if (wrong !== undefined) throw new BenchUsageError(`${file}: ${wrong}: expected a whole results.json`)
  return value as BenchResults
}

/** What a comparison needs and a damaged file lacks. */
function whatIsWrong({ machine, options, suites }: Partial<BenchResults>): string | undefined {
  if (typeof machine?.date !== 'string') return 'no machine.date'
  if (!Array.isArray(options?.modes) || !Array.isArray(options.peers)) return 'no options.modes or options.peers'
  if (!Array.isArray(suites)) return 'no suites'
  const lists = ['series', 'derived', 'rounds'] as const
  const lacking = lists.find((list) => !(suites as readonly SuiteResult[]).every((suite) => Array.isArray(suite[list])))
  return lacking && `a suite without ${lacking}`
}
