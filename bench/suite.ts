import type { BenchOptions } from './options.ts'
import type { Progress } from './progress.ts'
import type { Random } from './random.ts'
import type { Recorder } from './recorder.ts'

/** One thing that the benchmark measures. bench/README.md says how to add one; bench/suites.ts has them all. */
export interface Suite {
  /** As it is called on the command line. */
  readonly name: string
  /** What is measured, in a line of `--help`. */
  readonly measures: string
  /** Why anybody should care, in a sentence of the report. */
  readonly why: string
  /** It runs when no suite is named, and with `--quick`. Those about proxy modes do. */
  readonly byDefault: boolean
  /** The options that it heeds, by name: `['services', 'modes', 'rounds']`. */
  readonly heeds: readonly string[]
  /** About how long it takes, seconds: for the time left. */
  estimate(options: BenchOptions): number
  /** What is missing for it (programs, kernel features), each as one line with what to do. Nothing has started yet. */
  missing?(options: BenchOptions): Promise<readonly string[]>
  /** Measures, and tells the recorder. What fails in one mode is recorded, and the others go on; it throws when there is nothing to go on with. */
  run(context: SuiteContext): Promise<void>
}

/** What a suite is given. */
export interface SuiteContext {
  readonly options: BenchOptions
  /** Takes figures, and what could not be measured. */
  readonly recorder: Recorder
  readonly progress: Progress
  /** Drawn from the seed of the run. */
  readonly random: Random
  /** Aborted by Ctrl-C: stop soon, dispose everything, throw. */
  readonly signal: AbortSignal
}
