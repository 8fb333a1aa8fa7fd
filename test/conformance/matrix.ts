import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { formatMatrix, type MatrixColumn } from './format-matrix.ts'
import type { FlowResult } from './report.ts'

/*
 * Prints docs/conformance.md from results of the runner: `matrix.ts NAME=RESULTS.json ...`, a column each.
 * `npm run conformance:matrix` makes them all.
 */
const columns = process.argv.slice(2).map((word): MatrixColumn => {
  const [name = '', file] = word.split('=')
  if (file === undefined) throw new Error(`${word}: expected NAME=RESULTS.json`)
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
  const results = lines
    .map((line) => JSON.parse(line) as FlowResult | object)
    .filter((line): line is FlowResult => 'flow' in line)
  return { name, results: results.map((result) => ({ ...result, file: caseName(result.file) })) }
})
process.stdout.write(formatMatrix(columns))

/** Where a file lies is nobody's business, but whose it is. */
function caseName(file: string): string {
  return `${file.includes('test/cases/flows') ? 'own' : 'shared'}/${basename(file, '.yaml')}`
}
