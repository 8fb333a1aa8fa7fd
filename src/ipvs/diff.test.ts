import { describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { diffServers } from './diff.ts'
import { virtualKey, type Command, type RealServer, type VirtualServerState } from './objects.ts'

const at = { ip: parseIp('10.96.0.1'), port: parsePort(80), protocol: 'tcp' } as const
const other = { ...at, port: parsePort(81) }
const a: RealServer = { ip: parseIp('10.0.0.1'), port: parsePort(8080), weight: 1 }
const b: RealServer = { ...a, ip: parseIp('10.0.0.2') }
const traffic = { connections: 0n, packetsIn: 0n, packetsOut: 0n, bytesIn: 0n, bytesOut: 0n }

function held(
  reals: readonly (RealServer & { readonly active?: number; readonly persistent?: number })[],
): VirtualServerState {
  const states = reals.map(({ active = 0, persistent = 0, ...real }) => ({
    ...real,
    traffic,
    counts: { active, inactive: 0, persistent },
  }))
  return { at, scheduler: 'rr', reals: states, traffic }
}

const rr = { at, scheduler: 'rr' }
const rows: readonly {
  readonly name: string
  readonly current: readonly VirtualServerState[]
  readonly wanted: Parameters<typeof diffServers>[1]
  readonly commands: readonly string[]
  readonly draining?: readonly string[]
}[] = [
  {
    name: 'a new virtual server comes before its real ones',
    current: [],
    wanted: [{ ...rr, reals: [a, b] }],
    commands: ['add-virtual TCP 10.96.0.1:80', 'add-real 10.0.0.1 1', 'add-real 10.0.0.2 1'],
  },
  { name: 'what is as wanted costs nothing', current: [held([a])], wanted: [{ ...rr, reals: [a] }], commands: [] },
  {
    name: 'a new real server comes before another goes',
    current: [held([a])],
    wanted: [{ ...rr, reals: [b] }],
    commands: ['add-real 10.0.0.2 1', 'delete-real 10.0.0.1'],
  },
  {
    name: 'a real server with connections gets the weight 0 and stays',
    current: [held([{ ...a, active: 2 }])],
    wanted: [{ ...rr, reals: [b] }],
    commands: ['add-real 10.0.0.2 1', 'set-real 10.0.0.1 0'],
    draining: ['10.0.0.1'],
  },
  {
    name: 'one that drains already is left alone',
    current: [held([{ ...a, weight: 0, active: 2 }, b])],
    wanted: [{ ...rr, reals: [b] }],
    commands: [],
    draining: ['10.0.0.1'],
  },
  {
    name: 'clients that persistence remembers do not keep a real server',
    current: [held([{ ...a, persistent: 3 }, b])],
    wanted: [{ ...rr, reals: [b] }],
    commands: ['delete-real 10.0.0.1'],
  },
  {
    name: 'one that drains and comes back gets its weight again',
    current: [held([{ ...a, weight: 0, active: 2 }])],
    wanted: [{ ...rr, reals: [a] }],
    commands: ['set-real 10.0.0.1 1'],
  },
  {
    name: 'another scheduler or persistence is one command',
    current: [held([a])],
    wanted: [{ ...rr, scheduler: 'mh', persistence: { seconds: 60 }, reals: [a] }],
    commands: ['set-virtual TCP 10.96.0.1:80'],
  },
  {
    name: 'persistence over all bits is the same as persistence without a prefix',
    current: [{ ...held([a]), persistence: { seconds: 60 } }],
    wanted: [{ ...rr, persistence: { seconds: 60, prefix: 32 }, reals: [a] }],
    commands: [],
  },
  {
    name: 'a virtual server goes last, with all of its real ones',
    current: [held([{ ...a, active: 2 }])],
    wanted: [{ at: other, scheduler: 'rr', reals: [a] }],
    commands: ['add-virtual TCP 10.96.0.1:81', 'add-real 10.0.0.1 1', 'delete-virtual TCP 10.96.0.1:80'],
  },
]

describe('diffServers()', () => {
  test.each(rows)('$name', ({ current, wanted, commands, draining = [] }) => {
    const changes = diffServers(current, wanted)
    expect(changes.commands.map(textOf)).toEqual(commands)
    expect(changes.draining.map(({ real }) => real.ip)).toEqual(draining)
  })

  test('virtual servers of others stay as they are', () => {
    expect(diffServers([held([a])], [], { isForeign: () => true }).commands).toEqual([])
  })
})

function textOf(command: Command): string {
  switch (command.op) {
    case 'add-virtual':
    case 'set-virtual':
      return `${command.op} ${virtualKey(command.virtual.at)}`
    case 'delete-virtual':
      return `${command.op} ${virtualKey(command.at)}`
    case 'delete-real':
      return `${command.op} ${command.real.ip}`
    default:
      return `${command.op} ${command.real.ip} ${command.real.weight}`
  }
}
