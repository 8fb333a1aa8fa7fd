import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { maxServices } from './generate-services.ts'
import { machineFacts } from './machine.ts'
import { formatProgram, runProgram, type ProgramResult } from './program.ts'

const help = `npm run bench -- [SUITE] [options]

Suites
  program    cold start, restart, and one endpoint changed: time, bytes and elements that go to the kernel, memory

Options
  --services N,N,...   numbers of Services to measure (default 100,1000,10000)
  --endpoints N        endpoints of each Service (default 5)
  --rounds N           one-endpoint changes measured at each size (default 10)
  --out DIR            where results.json goes (default bench/out)
  --json               print the results as JSON instead of a table

Everything happens in network namespaces of its own; needs root. bench/README.md says what is measured, and how.`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    services: { type: 'string', default: '100,1000,10000' },
    endpoints: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '10' },
    out: { type: 'string', default: 'bench/out' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

if (values.help) {
  console.log(help)
  process.exit(0)
}
const unknown = positionals.filter((suite) => suite !== 'program')
if (unknown.length > 0) fail(`unknown suite: ${unknown.join(', ')} (expected: program)`)
if (process.getuid?.() !== 0) fail('needs root: it measures in network namespaces of its own')

const sizes = values.services.split(',').map((text) => count('--services', text, maxServices))
const endpointsEach = count('--endpoints', values.endpoints, 40)
const rounds = count('--rounds', values.rounds, 1000)

const machine = machineFacts()
if (machine.load > machine.cpus / 2) {
  process.stderr.write(
    `warning: load is ${machine.load} on ${machine.cpus} CPUs: times will be too long, counts are right all the same\n`,
  )
}
const results: ProgramResult[] = []
for (const services of sizes) {
  results.push(await runProgram({ services, endpointsEach, rounds }, (text) => process.stderr.write(`${text}\n`)))
}
mkdirSync(values.out, { recursive: true })
const file = join(values.out, 'results.json')
writeFileSync(file, `${JSON.stringify({ machine, program: results }, undefined, 2)}\n`)
console.log(values.json ? JSON.stringify({ machine, program: results }) : formatProgram(machine, results))
process.stderr.write(`raw figures: ${file}\n`)

function count(flag: string, text: string, max: number): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1 || number > max)
    fail(`${flag} ${text}: expected a whole number from 1 to ${max}`)
  return number
}

function fail(message: string): never {
  process.stderr.write(`bench: ${message}\n`)
  process.exit(2)
}
