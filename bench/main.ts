import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { formatAttach, runAttach, type AttachResult } from './attach.ts'
import { maxServices } from './generate-services.ts'
import { formatFollow, runFollow, type FollowResult } from './follow.ts'
import { machineFacts } from './machine.ts'
import { formatProgram, type ProgramMiss } from './format-program.ts'
import { programModes, ProgramTimeout, runProgram, type ProgramMode, type ProgramResult } from './program.ts'

const help = `npm run bench -- [SUITE] [options]

Suites
  program    cold start, restart, one endpoint changed, one Service added, a tenth of all changed, in each mode: time, CPU, bytes and
             elements that go to the kernel, memory
  attach     attach and detach of an endpoint, alone and many at once, with a published port and without, against scripts of
             ip(8) and against the CNI reference plugins
  follow     an API server with that many Services is followed: time, CPU and memory until the first snapshot, then 1000 changes a
             second: how long each takes until it is in a snapshot

Options
  --services N,N,...   program, follow: numbers of Services to measure (default 100,1000,10000)
  --endpoints N        program, follow: endpoints of each Service (default 5)
  --modes M,M,...      program: nftables, iptables-legacy, iptables-nft, userspace (default nftables)
  --start-limit N      program: seconds that a mode may take to its first sync before it is given up (default 400)
  --rounds N           program: one-endpoint changes at each size; attach: endpoints one by one (default 10)
  --many N             attach: endpoints at once (default 200)
  --many-rounds N      attach: how often that (default 5; contenders that need 5 s for it have one)
  --out DIR            where results.json goes (default bench/out)
  --json               print the results as JSON instead of a table

Everything happens in network namespaces of its own; needs root. bench/README.md says what is measured, and how.`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    services: { type: 'string', default: '100,1000,10000' },
    endpoints: { type: 'string', default: '5' },
    modes: { type: 'string', default: 'nftables' },
    'start-limit': { type: 'string', default: '400' },
    rounds: { type: 'string', default: '10' },
    many: { type: 'string', default: '200' },
    'many-rounds': { type: 'string', default: '5' },
    out: { type: 'string', default: 'bench/out' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

if (values.help) {
  console.log(help)
  process.exit(0)
}
const suites = ['program', 'attach', 'follow']
const unknown = positionals.filter((suite) => !suites.includes(suite))
if (unknown.length > 0) fail(`unknown suite: ${unknown.join(', ')} (expected: ${suites.join(' or ')})`)
const wanted = new Set(positionals.length > 0 ? positionals : suites)
if (process.getuid?.() !== 0) fail('needs root: it measures in network namespaces of its own')

const sizes = values.services.split(',').map((text) => count('--services', text, maxServices))
const endpointsEach = count('--endpoints', values.endpoints, 40)
const rounds = count('--rounds', values.rounds, 1000)
const startLimitMs = count('--start-limit', values['start-limit'], 3600) * 1000
const modes = values.modes.split(',').map(modeNamed)
const many = count('--many', values.many, 1000)
const manyRounds = count('--many-rounds', values['many-rounds'], 100)

const machine = machineFacts()
if (machine.load > machine.cpus / 2) {
  process.stderr.write(
    `warning: load is ${machine.load} on ${machine.cpus} CPUs: times will be too long, counts are right all the same\n`,
  )
}
const progress = (text: string): void => void process.stderr.write(`${text}\n`)
const program: ProgramResult[] = []
const misses: ProgramMiss[] = []
if (wanted.has('program')) {
  for (const services of sizes) {
    for (const mode of modes) {
      try {
        program.push(await runProgram({ services, endpointsEach, rounds, mode, startLimitMs }, progress))
      } catch (error) {
        if (!(error instanceof ProgramTimeout)) throw error
        misses.push({ services, endpointsEach, mode, reason: error.message })
      }
    }
  }
}
let attach: AttachResult | undefined
if (wanted.has('attach')) attach = await runAttach({ rounds, many, manyRounds }, progress)
const follow: FollowResult[] = []
if (wanted.has('follow')) {
  for (const services of sizes) follow.push(...(await runFollow({ services, endpointsEach }, progress)))
}

const results = {
  machine,
  ...(program.length > 0 && { program }),
  ...(misses.length > 0 && { misses }),
  ...(attach && { attach }),
  ...(follow.length > 0 && { follow }),
}
mkdirSync(values.out, { recursive: true })
const file = join(values.out, 'results.json')
writeFileSync(file, `${JSON.stringify(results, undefined, 2)}\n`)
if (values.json) console.log(JSON.stringify(results))
else {
  if (program.length + misses.length > 0) console.log(formatProgram(machine, program, misses))
  if (attach) console.log(formatAttach(machine, attach))
  if (follow.length > 0) console.log(formatFollow(machine, follow))
}
process.stderr.write(`raw figures: ${file}\n`)

function count(flag: string, text: string, max: number): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1 || number > max)
    fail(`${flag} ${text}: expected a whole number from 1 to ${max}`)
  return number
}

function modeNamed(text: string): ProgramMode {
  const mode = programModes.find((name) => name === text)
  return mode ?? fail(`--modes ${text}: expected ${programModes.join(', ')}`)
}

function fail(message: string): never {
  process.stderr.write(`bench: ${message}\n`)
  process.exit(2)
}
