import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseResolvConf } from '../dns-forward/resolv-conf.ts'
import { plainUpstream } from '../dns-forward/upstream.ts'
import { exchangeTcp, exchangeUdp } from '../dns-forward/upstream-exchange.ts'
import { rcodeName } from '../dns/dns-counts.ts'
import { encodeRequest } from '../dns-message/encode-request.ts'
import { parseName } from '../dns-message/name.ts'
import { printRecords } from '../dns-message/print-records.ts'
import { recordClasses } from '../dns-message/record-set.ts'
import { parseType } from '../dns-message/type-names.ts'
import { parseIp } from '../net/ip-address.ts'

/** What one question over the wire brought. */
export interface QueryResult {
  readonly server: string
  readonly transport: 'udp' | 'tcp'
  readonly rcode: string
  readonly authoritative: boolean
  readonly answer: readonly string[]
  readonly authority: readonly string[]
  readonly additional: readonly string[]
  readonly ms: number
}

/** How long an answer is waited for, ms: what the C library does. */
const timeout = 5000

/**
 * Asks one question of a server, or of the first one of /etc/resolv.conf, in the network namespace of this process: over UDP, and over TCP
 * when the answer did not fit. Rejects when there is no answer; throws ParseError for a name, type or address that is none.
 */
export async function queryOnce(name: string, type: string, server: string | undefined): Promise<QueryResult> {
  const question = { name: parseName(name), type: parseType(type), class: recordClasses.IN }
  const address =
    server === undefined ? parseResolvConf(readFileSync('/etc/resolv.conf', 'utf8')).servers[0] : parseIp(server)
  if (!address) throw new Error('/etc/resolv.conf names no server')
  const id = randomInt(0x1_0000)
  const request = encodeRequest(question, { id, edns: true, dnssecOk: false, checkingDisabled: false })
  const options = { upstream: plainUpstream(address), question, id, signal: AbortSignal.timeout(timeout) }
  const began = performance.now()
  const first = await exchangeUdp(request, options)
  const reply = first.truncated ? await exchangeTcp(request, options) : first
  const { answer } = reply
  return {
    server: address,
    transport: first.truncated ? 'tcp' : 'udp',
    rcode: rcodeName(answer.rcode),
    authoritative: answer.authoritative,
    answer: printRecords(answer.answer),
    authority: printRecords(answer.authority),
    additional: printRecords(answer.additional),
    ms: Math.round((performance.now() - began) * 1000) / 1000,
  }
}

// Run by itself, in a pod's network: NAME TYPE [SERVER], and the result or what went wrong as JSON.
if (import.meta.main) {
  const [name = '', type = 'A', server] = process.argv.slice(2)
  try {
    console.log(JSON.stringify(await queryOnce(name, type, server)))
  } catch (error) {
    console.log(JSON.stringify({ error: error instanceof Error ? error.message : String(error) }))
  }
}
