import { describe, expect, it } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { sharedAddresses } from './affinity-members.ts'
import { AffinityTable } from './affinity-table.ts'
import { EndpointPicker, type PickOptions } from './endpoint-picker.ts'
import type { Affinity, Frontend, VipFrontend } from './frontends.ts'
import { maglevSlot, maglevTable } from './maglev.ts'
import type { Slots } from './slots.ts'

const slots = (...texts: string[]): Slots =>
  texts.map((text) => {
    const [ip = '', port = '80'] = text.split(':')
    return { ip: parseIp(ip), port: Number(port) as Port }
  })
const sticky: Affinity = { timeoutSeconds: 10, group: 'default/web:http/tcp', remembers: 'endpoint' }
const client = parseIp('10.9.9.9')

function frontend(of: Slots, fields: Partial<VipFrontend> = {}): Frontend {
  return {
    kind: 'cluster-ip',
    ip: parseIp('10.96.0.1'),
    family: 4,
    protocol: 'tcp',
    port: 80 as Port,
    verdict: { kind: 'balance', slots: of },
    outside: undefined,
    masquerade: 'unless-pod',
    portName: 'http',
    algorithm: 'random',
    affinity: undefined,
    sourceRanges: undefined,
    ...fields,
  }
}

function open() {
  const clock = new FakeClock()
  const picker = new EndpointPicker({ clock })
  const pick = (of: Frontend, options: Partial<PickOptions> = {}): string | undefined => {
    const endpoint = picker.pick(of, { view: 'verdict', client, ...options })
    return endpoint && `${endpoint.ip}:${endpoint.port}`
  }
  return { clock, pick }
}

describe('EndpointPicker', () => {
  it('takes slots in turn, so that shares are exact', () => {
    const { pick } = open()
    const of = frontend(slots('10.0.0.1', '10.0.0.1', '10.0.0.1', '10.0.0.2'))
    const seen = Array.from({ length: 40 }, () => pick(of))
    expect(seen.filter((e) => e === '10.0.0.2:80')).toHaveLength(10)
  })

  it('leaves out those that failed, and gives up when all have', () => {
    const { pick } = open()
    const all = slots('10.0.0.1', '10.0.0.2')
    const of = frontend(all)
    for (let i = 0; i < 4; i++) expect(pick(of, { failed: all.slice(0, 1) })).toBe('10.0.0.2:80')
    expect(pick(of, { failed: all })).toBeUndefined()
  })

  it('gives clients outside their own view, where there is one', () => {
    const { pick } = open()
    const of = frontend(slots('10.0.0.1'), { outside: { kind: 'balance', slots: slots('10.0.0.2') } })
    expect(pick(of)).toBe('10.0.0.1:80')
    expect(pick(of, { view: 'outside' })).toBe('10.0.0.2:80')
    expect(pick(frontend(slots('10.0.0.1')), { view: 'outside' })).toBe('10.0.0.1:80')
    expect(pick(frontend([], { verdict: { kind: 'reject' } }))).toBeUndefined()
  })

  it('finds the slot of a client by its hash under maglev', () => {
    const { pick } = open()
    const table = maglevTable(slots('10.0.0.1', '10.0.0.2', '10.0.0.3'))
    const of = frontend(table, { algorithm: 'maglev' })
    const expected = `${table[maglevSlot(client, table.length)]?.ip}:80`
    expect([pick(of), pick(of), pick(of)]).toEqual([expected, expected, expected])
  })
})

describe('EndpointPicker with session affinity', () => {
  const two = slots('10.0.0.1', '10.0.0.2')

  it('keeps a client on its endpoint, and begins its time anew with each connection', async () => {
    const { clock, pick } = open()
    const of = frontend(two, { affinity: sticky })
    const first = pick(of)
    for (let i = 0; i < 5; i++) {
      await clock.advance(9000)
      expect(pick(of)).toBe(first)
    }
    await clock.advance(10_001)
    expect(pick(of)).not.toBe(first)
  })

  it('keeps it while the slots around it change, and lets it choose anew when its endpoint goes', () => {
    const { pick } = open()
    const first = pick(frontend(two, { affinity: sticky }))!
    const [other] = two.filter((slot) => `${slot.ip}:80` !== first)
    const moved = [...slots('10.0.0.7', '10.0.0.8'), ...slots(first)]
    for (let i = 0; i < 4; i++) expect(pick(frontend(moved, { affinity: sticky }))).toBe(first)
    expect(pick(frontend([other!], { affinity: sticky }))).toBe(`${other?.ip}:80`)
    // The new choice is what counts from then on.
    expect(pick(frontend(two, { affinity: sticky }))).toBe(`${other?.ip}:80`)
  })

  it('is shared by the frontends of a group, and by pods with another port where addresses are remembered', () => {
    const { pick } = open()
    const group: Affinity = { ...sticky, group: 'default/web', remembers: 'address' }
    const first = pick(frontend(slots('10.0.0.1:80', '10.0.0.2:80'), { affinity: group }))
    const second = pick(frontend(slots('10.0.0.1:443', '10.0.0.2:443'), { affinity: group }))
    expect(second?.split(':')[0]).toBe(first?.split(':')[0])
  })

  it('is kept by a pod that has its address with others', () => {
    const { pick } = open()
    const group: Affinity = { ...sticky, group: 'default/web', remembers: 'address' }
    const shared = (of: Slots): Affinity => ({ ...group, shared: sharedAddresses(of)! })
    const web = slots('10.0.0.1:80', '10.0.0.1:81', '10.0.0.1:82')
    const metrics = slots('10.0.0.1:92', '10.0.0.1:90', '10.0.0.1:91')
    const first = pick(frontend(web, { affinity: shared(web) }))
    const other = pick(frontend(metrics, { affinity: shared(metrics) }))
    expect(other).toBe(first?.replace(':8', ':9'))
    expect(pick(frontend(web, { affinity: shared(web) }))).toBe(first)
  })

  it('leaves an endpoint that failed', () => {
    const { pick } = open()
    const of = frontend(two, { affinity: sticky })
    const first = pick(of)!
    const second = pick(of, { failed: slots(first) })
    expect(second).not.toBe(first)
    expect(pick(of)).toBe(second)
  })
})

describe('AffinityTable', () => {
  it('forgets the longest silent client beyond its limit', () => {
    const table = new AffinityTable({ clock: new FakeClock(), limit: 2 })
    const [endpoint] = slots('10.0.0.1')
    const clients = ['10.9.0.1', '10.9.0.2', '10.9.0.3'].map(parseIp)
    for (const ip of [clients[0]!, clients[1]!, clients[0]!, clients[2]!]) table.remember(sticky, ip, endpoint!)
    expect(clients.map((ip) => table.recall(sticky, ip) !== undefined)).toEqual([true, false, true])
  })
})
