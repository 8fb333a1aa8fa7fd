import { ManifestReader, show } from '../../src/model/manifest-reader.ts'
import { parseIp, type IpAddress } from '../../src/net/ip-address.ts'
import { ParseError } from '../../src/net/parse-error.ts'
import { parsePort, type Port } from '../../src/net/port.ts'
import { parseProtocol, type Protocol } from '../../src/net/protocol.ts'
import { CaseError, notEmpty, parseDuration, parseYaml, refuseUnknown, required } from './case-reader.ts'
import {
  endpointName,
  manifestKinds,
  type CaseNode,
  type EndpointName,
  type Expectation,
  type Flow,
  type FlowCase,
  type Step,
} from './flow-case.ts'
import { configFields } from './proxy-config.ts'
import { readDeletions, readManifests } from './read-manifests.ts'

const defaultNode: CaseNode = { name: 'this-node', zone: 'zone-a', addresses: [parseIp('192.168.0.2')] }

/** Reads the text of a case file. Throws {@link CaseError}. */
export function parseCase(text: string, file: string): FlowCase {
  const reader = ManifestReader.of(parseYaml(text, file))
  const { problems } = reader
  refuseUnknown(reader, ['title', 'config', 'node', 'objects', 'flows', 'steps'])
  const title = required(reader, 'title', (key) => reader.parsedText(key, notEmpty)) ?? ''
  const config = reader.object('config')
  refuseUnknown(config, configFields)
  const steps = readSteps(reader)
  const result: FlowCase = {
    file,
    title,
    config: (reader.raw('config') ?? {}) as Record<string, unknown>,
    node: readNode(reader),
    objects: readManifests(reader, 'objects', manifestKinds),
    steps,
  }
  if (problems.length > 0) throw new CaseError(file, problems)
  return result
}

function readNode(reader: ManifestReader): CaseNode {
  if (!reader.has('node')) return defaultNode
  const node = reader.object('node')
  refuseUnknown(node, ['name', 'zone', 'addresses'])
  const name = required(node, 'name', (key) => node.parsedText(key, notEmpty)) ?? ''
  const zone = required(node, 'zone', (key) => node.text(key)) ?? ''
  const addresses = node.parsedTexts('addresses', parseIp)
  if (node.list('addresses').length === 0) node.fail('addresses', 'is empty (expected the addresses of the node)')
  return { name, zone, addresses }
}

function readSteps(reader: ManifestReader): Step[] {
  if (!reader.has('steps')) {
    if (!reader.has('flows')) reader.fail('flows', 'is missing (expected flows, or steps)')
    return [{ name: undefined, apply: [], delete: [], wait: 0, flows: readFlows(reader) }]
  }
  if (reader.has('flows')) reader.fail('flows', 'stands beside steps (expected only one of them)')
  return Array.from(reader.objects('steps'), (step) => {
    refuseUnknown(step, ['name', 'apply', 'delete', 'wait', 'flows'])
    return {
      name: required(step, 'name', (key) => step.parsedText(key, notEmpty)) ?? '',
      apply: readManifests(step, 'apply', manifestKinds),
      delete: readDeletions(step, manifestKinds),
      wait: step.parsedText('wait', parseDuration) ?? 0,
      flows: readFlows(step),
    }
  })
}

const flowFields = [
  'name',
  'from',
  'to',
  'expect',
  'masquerade',
  'sticky',
  'interval',
  'sourcePort',
  'weights',
] as const

function readFlows(reader: ManifestReader): Flow[] {
  return Array.from(reader.objects('flows'), (flow) => {
    refuseUnknown(flow, flowFields)
    const to = required(flow, 'to', (key) => flow.parsedText(key, parseTo))
    const expect = readExpectation(flow)
    const result: Flow = {
      name: required(flow, 'name', (key) => flow.parsedText(key, notEmpty)) ?? '',
      from: required(flow, 'from', (key) => flow.parsedText(key, parseFrom)) ?? 'node',
      protocol: to?.protocol ?? 'tcp',
      address: to?.address ?? parseIp('0.0.0.0'),
      port: to?.port ?? (1 as Port),
      expect,
      masquerade: flow.boolean('masquerade'),
      sticky: flow.boolean('sticky') ?? false,
      interval: flow.parsedText('interval', parseDuration),
      sourcePort: flow.parsed('sourcePort', parsePort),
      weights: readWeights(flow, expect),
    }
    if (to) checkTogether(flow, result)
    return result
  })
}

/** What each field allows by itself may make no sense beside another. */
function checkTogether(reader: ManifestReader, flow: Flow): void {
  const isList = Array.isArray(flow.expect)
  for (const key of ['masquerade', 'sticky', 'weights'] as const) {
    if (reader.has(key) && !isList)
      reader.fail(key, `has no meaning with expect: ${show(flow.expect)} (expected a list)`)
  }
  if (flow.sourcePort !== undefined && flow.protocol !== 'udp') reader.fail('sourcePort', 'is for UDP only')
  if (flow.weights && flow.sticky) reader.fail('weights', 'stands beside sticky (expected only one of them)')
  if (flow.from !== 'node' && flow.from.includes(':') !== flow.address.includes(':'))
    reader.fail('from', `${show(flow.from)} is of another IP family than to`)
}

function readExpectation(flow: ManifestReader): Expectation {
  const value = flow.raw('expect')
  if (value === undefined)
    return flow.fail('expect', 'is missing (expected a list of endpoints, reject, drop or host)') ?? []
  if (!Array.isArray(value)) return flow.oneOf('expect', ['reject', 'drop', 'host'] as const) ?? ([] as const)
  const endpoints = flow.parsedTexts('expect', parseEndpoint)
  if (value.length === 0) flow.fail('expect', 'is empty (expected an endpoint, or reject, drop or host)')
  if (new Set(endpoints).size < endpoints.length) flow.fail('expect', 'names an endpoint twice')
  return endpoints
}

function readWeights(flow: ManifestReader, expect: Expectation): Flow['weights'] {
  if (!flow.has('weights')) return undefined
  const reader = flow.object('weights')
  const weights = new Map<EndpointName, number>()
  for (const [key, value] of Object.entries((flow.raw('weights') ?? {}) as Record<string, unknown>)) {
    try {
      const name = parseEndpoint(key)
      if (typeof value === 'number' && value >= 0 && Number.isFinite(value)) weights.set(name, value)
      else reader.fail(key, `${show(value)} is not a share (expected a number from 0 on)`)
    } catch (error) {
      if (!(error instanceof ParseError)) throw error
      reader.fail(key, error.message)
    }
  }
  for (const [name, weight] of weights) {
    const expected = expect.includes(name)
    if (weight > 0 && !expected) reader.fail(name, 'is not among the expected endpoints')
    if (weight === 0 && expected) reader.fail(name, 'has no share, but is among the expected endpoints')
  }
  if (Array.isArray(expect)) {
    for (const name of expect as readonly EndpointName[]) {
      if (!weights.has(name)) flow.fail('weights', `says nothing of ${name}`)
    }
  }
  return weights
}

function parseFrom(text: string): IpAddress | 'node' {
  return text === 'node' ? text : parseIp(text)
}

function parseTo(text: string): { protocol: Protocol; address: IpAddress; port: Port } {
  const match = /^(tcp|udp|sctp) +(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d+)$/.exec(text.trim())
  if (!match)
    throw new ParseError(`${show(text)} is not a target (expected like tcp 172.30.0.41:80 or udp [fd00:172:30::41]:53)`)
  const [, protocol = '', six, four] = match
  return {
    protocol: parseProtocol(protocol.toUpperCase()),
    address: parseIp(six ?? four ?? ''),
    port: parsePort(Number(match[4])),
  }
}

function parseEndpoint(text: string): EndpointName {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d+)$/.exec(text)
  if (!match) throw new ParseError(`${show(text)} is not an endpoint (expected like 10.180.0.1:80 or [fd00:10::1]:80)`)
  return endpointName(parseIp(match[1] ?? match[2] ?? ''), parsePort(Number(match[3])))
}
