import type { PodNames } from '../../src/dns/cluster-zone.ts'
import { parseName } from '../../src/dns-message/name.ts'
import { ManifestReader, show } from '../../src/model/manifest-reader.ts'
import { parseIp } from '../../src/net/ip-address.ts'
import { ParseError } from '../../src/net/parse-error.ts'
import { CaseError, notEmpty, parseDuration, parseYaml, refuseUnknown, required } from '../conformance/case-reader.ts'
import { readDeletions, readManifests } from '../conformance/read-manifests.ts'
import { numberOf, rcodeNumbers, typeNumbers } from './codes.ts'
import {
  type CaseConfig,
  type CaseQuery,
  type DnsCase,
  type DnsExpectation,
  type DnsStep,
  manifestKinds,
  type StubAnswer,
} from './dns-case.ts'
import { type ExpectedRecord, parseRecord } from './record-text.ts'

/** Reads the text of a case file. Throws {@link CaseError}. */
export function parseDnsCase(text: string, file: string): DnsCase {
  const reader = ManifestReader.of(parseYaml(text, file))
  refuseUnknown(reader, ['title', 'config', 'objects', 'queries', 'steps'])
  const result: DnsCase = {
    file,
    title: required(reader, 'title', (key) => reader.parsedText(key, notEmpty)) ?? '',
    config: readConfig(reader.object('config')),
    objects: readManifests(reader, 'objects', manifestKinds),
    steps: readSteps(reader),
  }
  if (reader.problems.length > 0) throw new CaseError(file, reader.problems)
  return result
}

function readConfig(reader: ManifestReader): CaseConfig {
  refuseUnknown(reader, ['zone', 'pods', 'ttl', 'synced', 'upstream'])
  const podNames: readonly PodNames[] = ['disabled', 'insecure', 'verified']
  return {
    zone: reader.parsedText('zone', (zone) => (parseName(zone), zone)) ?? 'cluster.local',
    pods: reader.oneOf('pods', podNames) ?? 'insecure',
    ttl: reader.integer('ttl', { min: 0, max: 0x7fff_ffff }) ?? 5,
    synced: reader.boolean('synced') ?? true,
    upstream: readUpstream(reader.object('upstream')),
  }
}

function readUpstream(reader: ManifestReader): StubAnswer[] {
  return reader.keys().flatMap((key): StubAnswer[] => {
    const stub = reader.object(key)
    refuseUnknown(stub, ['rcode', 'answer', 'delay', 'truncated'])
    try {
      return [
        {
          name: parseName(key),
          rcode: stub.parsedText('rcode', parseRcode) ?? 0,
          answer: stub.parsedTexts('answer', parseRecord),
          delay: stub.parsed('delay', parseDelay) ?? 0,
          truncated: stub.boolean('truncated') ?? false,
        },
      ]
    } catch (error) {
      if (!(error instanceof ParseError)) throw error
      reader.fail(key, error.message)
      return []
    }
  })
}

function readSteps(reader: ManifestReader): DnsStep[] {
  if (!reader.has('steps')) {
    if (!reader.has('queries')) reader.fail('queries', 'is missing (expected queries, or steps)')
    return [{ name: undefined, apply: [], delete: [], queries: readQueries(reader) }]
  }
  if (reader.has('queries')) reader.fail('queries', 'stands beside steps (expected only one of them)')
  return Array.from(reader.objects('steps'), (step) => {
    refuseUnknown(step, ['name', 'apply', 'delete', 'queries'])
    return {
      name: required(step, 'name', (key) => step.parsedText(key, notEmpty)) ?? '',
      apply: readManifests(step, 'apply', manifestKinds),
      delete: readDeletions(step, manifestKinds),
      queries: readQueries(step),
    }
  })
}

function readQueries(reader: ManifestReader): CaseQuery[] {
  return Array.from(reader.objects('queries'), (query) => {
    refuseUnknown(query, ['name', 'type', 'client', 'transport', 'edns', 'raw', 'expect'])
    const raw = query.parsedText('raw', parseHex)
    // With a raw message, name and type are only a label, and may be missing.
    const label = (key: string) =>
      raw ? query.text(key) : required(query, key, (key) => query.parsedText(key, notEmpty))
    const name = label('name') ?? raw?.toString('hex') ?? ''
    const type = label('type') ?? ''
    const wire = raw ? undefined : query.parsedText('name', parseName)?.wire
    const number = raw ? undefined : query.parsedText('type', parseType)
    const transport = query.oneOf('transport', ['udp', 'tcp'] as const) ?? 'udp'
    const client = query.parsedText('client', parseIp)
    const edns = query.has('edns') ? readQueryEdns(query.object('edns')) : undefined
    if (edns && raw) query.fail('edns', 'stands beside raw (expected only one of them)')
    const how = [transport === 'tcp' ? 'tcp' : '', edns ? `edns ${edns.udpSize}` : '', client ? `from ${client}` : '']
    return {
      label: [name, type, ...how].filter((word) => word !== '').join(' '),
      transport,
      client,
      message: raw ?? encodeQuery({ wire: wire ?? new Uint8Array(1), type: number ?? 1, edns }),
      raw: raw !== undefined,
      // A raw message may say anything about itself; what a server may send at most is known all the same.
      maxReply: raw ? 4096 : Math.max(512, edns?.udpSize ?? 0),
      expect: readExpectation(query),
    }
  })
}

interface QueryEdns {
  readonly udpSize: number
  readonly do: boolean
}

function readQueryEdns(reader: ManifestReader): QueryEdns {
  refuseUnknown(reader, ['udpSize', 'do'])
  return { udpSize: reader.integer('udpSize', { min: 0, max: 0xffff }) ?? 1232, do: reader.boolean('do') ?? false }
}

function readExpectation(query: ManifestReader): CaseQuery['expect'] {
  if (!query.has('expect')) query.fail('expect', 'is missing')
  const expect = query.object('expect')
  const keys = ['rcode', 'aa', 'ra', 'tc', 'answer', 'authority', 'additional', 'edns'] as const
  refuseUnknown(expect, [...keys, 'silence'])
  if (expect.boolean('silence')) {
    for (const key of keys) if (expect.has(key)) expect.fail(key, 'stands beside silence (expected only one of them)')
    return 'silence'
  }
  const records = (key: 'answer' | 'authority' | 'additional'): readonly ExpectedRecord[] | undefined =>
    expect.has(key) ? expect.parsedTexts(key, parseRecord) : undefined
  return {
    rcode: required(expect, 'rcode', (key) => expect.parsedText(key, parseRcode)) ?? 0,
    aa: expect.boolean('aa'),
    ra: expect.boolean('ra'),
    tc: expect.boolean('tc'),
    answer: records('answer'),
    authority: records('authority'),
    additional: records('additional'),
    edns: readExpectedEdns(expect),
  }
}

function readExpectedEdns(expect: ManifestReader): DnsExpectation['edns'] {
  const value = expect.raw('edns')
  if (value === undefined || value === 'none') return value
  const edns = expect.object('edns')
  refuseUnknown(edns, ['version', 'do', 'without'])
  const without = edns.list('without').flatMap((code) => {
    if (typeof code === 'number' && Number.isInteger(code) && code >= 0 && code <= 0xffff) return [code]
    edns.fail('without', `${show(code)} is not the code of an option`)
    return []
  })
  return { version: edns.integer('version', { min: 0, max: 255 }), do: edns.boolean('do'), without }
}

/** A query with RD, as stub resolvers send it; the id is filled in when it is sent. */
function encodeQuery({ wire, type, edns }: { wire: Uint8Array; type: number; edns: QueryEdns | undefined }): Buffer {
  const header = Buffer.from([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns ? 1 : 0])
  const fixed = Buffer.from([type >>> 8, type & 0xff, 0, 1])
  if (!edns) return Buffer.concat([header, wire, fixed])
  const opt = Buffer.from([0, 0, 41, edns.udpSize >>> 8, edns.udpSize & 0xff, 0, 0, edns.do ? 0x80 : 0, 0, 0, 0])
  return Buffer.concat([header, wire, fixed, opt])
}

function parseRcode(text: string): number {
  const rcode = rcodeNumbers[text]
  if (rcode === undefined)
    throw new ParseError(`${show(text)} is not a response code (expected ${Object.keys(rcodeNumbers).join(', ')})`)
  return rcode
}

function parseType(text: string): number {
  const type = numberOf(text, typeNumbers, 'TYPE')
  if (type === undefined) throw new ParseError(`${show(text)} is not a record type (others are written like TYPE65534)`)
  return type
}

function parseHex(text: string): Buffer {
  const digits = text.replaceAll(/\s+/g, '')
  if (!/^([0-9a-fA-F]{2})*$/.test(digits)) throw new ParseError(`${show(text)} is not hexadecimal`)
  return Buffer.from(digits, 'hex')
}

/** `2s`, or a number of seconds. */
function parseDelay(value: unknown): number {
  if (typeof value === 'number' && value >= 0) return value * 1000
  if (typeof value === 'string') return parseDuration(value)
  throw new ParseError(`${show(value)} is not a duration (expected like 2s or 500ms)`)
}
