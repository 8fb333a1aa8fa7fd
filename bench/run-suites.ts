import { whyNot } from './modes.ts'
import type { BenchOptions } from './options.ts'
import { Progress } from './progress.ts'
import { Random } from './random.ts'
import { Recorder, type SuiteResult } from './recorder.ts'
import type { Suite } from './suite.ts'
import { BenchUsageError } from './usage-error.ts'

/** Those that are named, or those that run by default, in their order. */
export function chooseSuites(all: readonly Suite[], options: BenchOptions): Suite[] {
  return all.filter(({ name, byDefault }) => (options.suites.length > 0 ? options.suites.includes(name) : byDefault))
}

/**
 * Finds out what this machine cannot do, before anything starts: modes that were named, and programs that a named suite
 * needs, are an error with all that is missing; the rest is left out, with the reason. Throws {@link BenchUsageError}.
 */
export async function checkMachine(
  chosen: readonly Suite[],
  options: BenchOptions,
): Promise<{ options: BenchOptions; missingModes: Record<string, string>; missing: Map<string, readonly string[]> }> {
  const missingModes: Record<string, string> = {}
  for (const mode of options.modes) {
    const reason = await whyNot(mode)
    if (reason !== undefined) missingModes[mode] = reason
  }
  const missing = new Map<string, readonly string[]>()
  for (const suite of chosen) {
    const lines = (await suite.missing?.(options)) ?? []
    if (lines.length > 0) missing.set(suite.name, lines)
  }
  const errors = [
    ...(options.modesNamed ? Object.entries(missingModes).map(([mode, why]) => `mode ${mode}: ${why}`) : []),
    ...[...missing]
      .filter(([name]) => options.suites.includes(name))
      .flatMap(([name, lines]) => lines.map((line) => `suite ${name}: ${line}`)),
  ]
  if (errors.length > 0) throw new BenchUsageError(errors.join('\nbench: '))
  const modes = options.modes.filter((mode) => missingModes[mode] === undefined)
  if (modes.length === 0) throw new BenchUsageError('no mode of those that are measured can run here')
  return { options: { ...options, modes }, missingModes, missing }
}

/** What is needed to run suites. */
export interface RunSuitesOptions {
  readonly options: BenchOptions
  /** By suite: what the machine lacks for it. */
  readonly missing: ReadonlyMap<string, readonly string[]>
  readonly signal: AbortSignal
}

/**
 * Runs suites one after another. One that throws is recorded as failed, and the others go on. Once the signal is aborted, what
 * was measured so far is the result, and says that it is not all.
 */
export async function runSuites(chosen: readonly Suite[], run: RunSuitesOptions): Promise<SuiteResult[]> {
  const { options, missing, signal } = run
  const able = chosen.filter(({ name }) => !missing.has(name))
  const progress = new Progress(able.reduce((sum, suite) => sum + suite.estimate(options), 0))
  const results: SuiteResult[] = []
  for (const suite of chosen) {
    const recorder = new Recorder(suite.name, {
      // The whole of it is in the results.
      onFailure: (text) => progress.say(text.replaceAll(/\s+/g, ' ').slice(0, 300)),
    })
    const lacks = signal.aborted ? ['stopped by the user'] : missing.get(suite.name)
    if (lacks) for (const line of lacks) recorder.skip(suite.name, line)
    else {
      progress.begin(suite.estimate(options))
      progress.say(`${suite.name}: ${suite.measures}`)
      try {
        await suite.run({ options, recorder, progress, signal, random: new Random(options.seed) })
        const { series, skipped, failures } = recorder.result()
        if (series.length + skipped.length + failures.length === 0)
          recorder.skip(
            suite.name,
            `with these options (it heeds ${suite.heeds.join(', ')}) there is nothing to measure`,
          )
      } catch (error) {
        recorder.fail(suite.name, signal.aborted ? signal.reason : error)
      }
    }
    results.push(recorder.result())
  }
  return results
}
