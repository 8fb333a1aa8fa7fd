import type { Expectation, Flow } from './flow-case.ts'

/** What became of one flow of a case. */
export interface FlowResult {
  readonly result: 'ok' | 'not ok' | 'skip'
  readonly file: string
  readonly title: string
  readonly step: string | undefined
  readonly flow: string
  /** With `not ok`. */
  readonly expected?: string
  readonly seen?: string
  /** With `skip`. */
  readonly reason?: string
}

export interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

/** `ok cases/a.yaml: TITLE: STEP: FLOW`, and why not when it is not. One line. */
export function formatResult(result: FlowResult): string {
  const { file, title, step, flow } = result
  const words = [
    `${result.result} ${file}`,
    title,
    ...(step === undefined ? [] : [step]),
    ...(flow === '' ? [] : [flow]),
  ]
  const line = words.join(': ')
  switch (result.result) {
    case 'ok':
      return line
    case 'skip':
      return `${line}: ${oneLine(result.reason ?? '')}`
    case 'not ok':
      return `${line}: expected ${result.expected}, seen: ${oneLine(result.seen ?? '')}`
    default:
      return result.result satisfies never
  }
}

/** `12 passed, 0 failed, 3 skipped` */
export function formatCounts({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`
}

export function countResults(results: readonly FlowResult[]): Counts {
  const count = (wanted: FlowResult['result']): number => results.filter(({ result }) => result === wanted).length
  return { passed: count('ok'), failed: count('not ok'), skipped: count('skip') }
}

/** What a flow expects, in words. */
export function describeExpectation(flow: Flow): string {
  const { expect, sticky, masquerade, weights } = flow
  const where = describeTarget(expect)
  const shares = weights ? ` in shares of ${[...weights.values()].join(':')}` : ''
  const stuck = sticky ? ', always the same' : ''
  const source = masquerade === undefined ? '' : masquerade ? ', source replaced' : ', source kept'
  return `${where}${shares}${stuck}${source}`
}

function describeTarget(expect: Expectation): string {
  return typeof expect === 'string' ? expect : expect.join(' ')
}

function oneLine(text: string): string {
  return text.trim().replaceAll(/\s*\n\s*/g, ' | ')
}
