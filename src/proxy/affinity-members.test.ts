import { describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { memberNames } from './affinity-members.ts'

const slots = (...texts: readonly string[]) =>
  texts.map((text) => {
    const [ip = '', port] = text.split(' ')
    return { ip: parseIp(ip), port: Number(port) as Port }
  })

describe('memberNames()', () => {
  const endpoint = { timeoutSeconds: 60, group: 'default/web:http/tcp', remembers: 'endpoint' } as const
  const address = { timeoutSeconds: 60, group: 'default/web', remembers: 'address' } as const

  test('is the endpoint, wherever its slots are', () => {
    expect(memberNames(endpoint, slots('10.0.0.1 80', '10.0.0.2 80', '10.0.0.1 80'))).toEqual([
      '10.0.0.1 80',
      '10.0.0.2 80',
      '10.0.0.1 80',
    ])
  })

  test('is the address where all ports count, and the place among its ports where it has several', () => {
    expect(memberNames(address, slots('10.0.0.1 80', '10.0.0.2 80', '10.0.0.1 80'))).toEqual([
      '10.0.0.1',
      '10.0.0.2',
      '10.0.0.1',
    ])
    expect(memberNames(address, slots('10.0.0.1 9000', '10.0.0.1 80', '10.0.0.2 80', '10.0.0.1 443'))).toEqual([
      '10.0.0.1 #3',
      '10.0.0.1',
      '10.0.0.2',
      '10.0.0.1 #2',
    ])
  })
})
