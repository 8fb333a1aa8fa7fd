import { keyOf, type Derived, type FigureKey, type Series } from './series.ts'
import type { Estimate } from './statistics.ts'

/** One round, and whether it counts. */
export interface RoundRecord {
  readonly round: number
  /** Which part of the suite it belongs to: `1000 Services`. */
  readonly part: string
  /** The arms in the order in which they ran. */
  readonly order: readonly string[]
  /** Of the CPU time of the machine: what the hypervisor took, and what processes that are not ours took. From 0 to 1. */
  readonly steal: number
  readonly foreign: number
  /** By which rule it was dropped; its values are kept all the same. */
  readonly dropped?: string
}

/** What a suite found out. */
export interface SuiteResult {
  readonly suite: string
  readonly tookMs: number
  readonly series: readonly Series[]
  /** What the suite worked out of several figures. */
  readonly derived: readonly Derived[]
  readonly rounds: readonly RoundRecord[]
  /** Claims that the suite tests, and whether this run bears them out. */
  readonly claims: readonly { readonly text: string; readonly holds: boolean; readonly seen: string }[]
  /** What was left out on purpose, or could not be here. */
  readonly skipped: readonly { readonly what: string; readonly reason: string }[]
  /** What failed; the rest of the run went on. */
  readonly failures: readonly { readonly what: string; readonly reason: string }[]
  /** Tables for the terminal. */
  readonly texts: readonly string[]
}

/** Collects what one suite measures. */
export class Recorder {
  readonly #suite: string
  readonly #onFailure: (text: string) => void
  readonly #began = performance.now()
  readonly #series = new Map<string, { key: FigureKey; rounds: number[]; values: number[]; raw: number[][] }>()
  readonly #derived: Derived[] = []
  readonly #rounds: RoundRecord[] = []
  readonly #claims: SuiteResult['claims'][number][] = []
  readonly #skipped: SuiteResult['skipped'][number][] = []
  readonly #failures: SuiteResult['failures'][number][] = []
  readonly #texts: string[] = []

  constructor(suite: string, options: { readonly onFailure?: (text: string) => void } = {}) {
    this.#suite = suite
    this.#onFailure = options.onFailure ?? (() => {})
  }

  /** Adds one value of a figure. Without a round it gets the next one. What is no number is recorded as failed: JSON has no place for it. */
  add(
    key: FigureKey,
    value: number,
    options: { readonly round?: number; readonly raw?: readonly number[] } = {},
  ): void {
    const id = keyOf(this.#suite, key)
    if (!Number.isFinite(value)) return this.fail(id, `${value} is no figure`)
    const series = this.#series.get(id) ?? { key, rounds: [], values: [], raw: [] }
    this.#series.set(id, series)
    series.rounds.push(options.round ?? series.values.length)
    series.values.push(value)
    if (options.raw) series.raw.push([...options.raw])
  }

  /** Adds values that came one after another, each a round of its own. */
  addAll(key: FigureKey, values: readonly number[]): void {
    for (const value of values) this.add(key, value)
  }

  /** Adds what was worked out of several figures, with its interval; nothing, where there was too little to work it out. */
  derive(key: FigureKey, { value, low, high, times }: Estimate): void {
    if ([value, low, high].every(Number.isFinite))
      this.#derived.push({ ...key, value, low, high, ...(times !== undefined && { times }) })
  }

  addRound(round: RoundRecord): void {
    this.#rounds.push(round)
  }

  /** Says whether the run bears out what is claimed. */
  claim(text: string, holds: boolean, seen: string): void {
    this.#claims.push({ text, holds, seen })
  }

  skip(what: string, reason: string): void {
    this.#skipped.push({ what, reason })
  }

  /** Records that something failed; the caller goes on with the rest. */
  fail(what: string, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error)
    this.#failures.push({ what, reason })
    this.#onFailure(`${this.#suite}: FAILED: ${what}: ${reason}`)
  }

  /** Adds a table, or a few lines, to what the terminal shows. */
  print(text: string): void {
    this.#texts.push(text)
  }

  /** All that was recorded so far. */
  result(): SuiteResult {
    const series = [...this.#series.values()].map(({ key, rounds, values, raw }): Series => {
      return { ...key, rounds, values, ...(raw.length === values.length && { raw }) }
    })
    return {
      suite: this.#suite,
      tookMs: performance.now() - this.#began,
      series,
      derived: this.#derived,
      rounds: this.#rounds,
      claims: this.#claims,
      skipped: this.#skipped,
      failures: this.#failures,
      texts: this.#texts,
    }
  }
}
