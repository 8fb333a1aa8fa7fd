import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { CLONE_NEWNET, unshare } from '../../src/linux/libc.ts'
import { addressCidr } from '../../src/net/cidr.ts'
import { type IpAddress } from '../../src/net/ip-address.ts'
import { openRtnetlink } from '../../src/rtnetlink/rtnetlink.ts'
import { CaseError } from '../conformance/case-reader.ts'
import { countResults, formatCounts, formatResult, type FlowResult } from '../conformance/report.ts'
import { findCaseFiles } from '../conformance/run-cases.ts'
import type { DnsCase } from './dns-case.ts'
import { parseDnsCase } from './parse-dns-case.ts'
import { runDnsCase, serverAddresses } from './run-dns-case.ts'

const help = `npm run -s conformance:dns -- [--json FILE] PATH...

Runs DNS cases (*.yaml files, or folders of them) against fairlead's DNS server over real sockets, in a network namespace of
its own. One line per query: ok, not ok or skip. The last line is "N passed, N failed, N skipped". Needs root.

Options
  --json FILE       write the results there too, one object per line`

process.exitCode = await main(process.argv.slice(2))

async function main(argv: readonly string[]): Promise<number> {
  let parsed
  try {
    parsed = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: { json: { type: 'string' }, help: { type: 'boolean', short: 'h', default: false } },
    })
  } catch (error) {
    return usageError((error as Error).message)
  }
  const { values, positionals } = parsed
  if (values.help) {
    console.log(help)
    return 0
  }
  if (positionals.length === 0) return usageError('no path given (expected case files or folders)')
  let files: string[]
  try {
    files = findCaseFiles(positionals)
  } catch (error) {
    return usageError((error as Error).message)
  }
  if (files.length === 0) return usageError(`no case files (*.yaml) in ${positionals.join(' ')}`)
  const results = await runFiles(files)
  const counts = countResults(results)
  if (values.json !== undefined)
    writeFileSync(values.json, [...results, counts].map((line) => `${JSON.stringify(line)}\n`).join(''))
  console.log(formatCounts(counts))
  return counts.failed > 0 ? 1 : 0
}

function usageError(message: string): number {
  console.error(`conformance:dns: ${message}\n\n${help}`)
  return 2
}

/** Prints each result as it comes. A file that cannot be used is a failure that says where and why. */
async function runFiles(files: readonly string[]): Promise<FlowResult[]> {
  const cases: DnsCase[] = []
  const results: FlowResult[] = []
  const add = (result: FlowResult): void => {
    results.push(result)
    console.log(formatResult(result))
  }
  for (const file of files) {
    try {
      cases.push(parseDnsCase(readFileSync(file, 'utf8'), file))
    } catch (error) {
      if (!(error instanceof CaseError)) throw error
      for (const { path, reason } of error.problems) {
        const title = `malformed at ${path === '' ? '(whole file)' : path}`
        add({ result: 'not ok', file, title, step: undefined, flow: '', expected: 'a case', seen: reason })
      }
    }
  }
  const clients = cases.flatMap(({ steps }) => steps.flatMap(({ queries }) => queries.flatMap((q) => q.client ?? [])))
  const reason = await enterOwnNamespace(new Set([...serverAddresses, ...clients]))
  for (const dnsCase of cases) {
    const { file, title } = dnsCase
    if (reason !== undefined) {
      for (const step of dnsCase.steps)
        for (const query of step.queries)
          add({ result: 'skip', file, title, step: step.name, flow: query.label, reason })
      continue
    }
    try {
      for await (const result of runDnsCase(dnsCase)) add(result)
    } catch (error) {
      const seen = error instanceof Error ? (error.stack ?? error.message) : String(error)
      add({ result: 'not ok', file, title, step: undefined, flow: '', expected: 'to be run', seen })
    }
  }
  return results
}

/**
 * Moves this thread, which opens all sockets, into a network namespace where port 53 is free and the addresses are on the
 * loopback. Returns what is in the way, if anything is.
 */
async function enterOwnNamespace(addresses: ReadonlySet<IpAddress>): Promise<string | undefined> {
  try {
    unshare(CLONE_NEWNET)
  } catch (error) {
    return `making a network namespace needs root: ${(error as Error).message}`
  }
  using rtnetlink = openRtnetlink()
  const lo = await rtnetlink.links.get('lo')
  if (!lo) return 'the network namespace has no loopback'
  await rtnetlink.links.set(lo.index, { up: true })
  for (const address of addresses)
    await rtnetlink.addresses.add({ link: lo.index, address: addressCidr(address), replace: true })
  return undefined
}
