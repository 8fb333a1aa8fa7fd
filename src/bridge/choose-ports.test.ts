import { describe, expect, test } from 'vitest'
import type { IpFamily } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { choosePorts, PublishError, type PublishContext } from './choose-ports.ts'
import { formatPublication, parsePublication, parsePublish } from './publication.ts'

/** A host with these listeners, `tcp 0.0.0.0 80`, and the addresses 192.0.2.2 and 127.0.0.1. */
function host(listeners: readonly string[] = [], families: readonly IpFamily[] = [4, 6]): PublishContext {
  let next = 40_000
  return {
    families,
    taken: [
      {
        owner: 'pod default/other',
        publication: parsePublication({ hostIp: '127.0.0.1', hostPort: 7000, port: 80, protocol: 'tcp' }),
      },
    ],
    probe: ({ ip, port, protocol }) => {
      if (!['0.0.0.0', '::', '127.0.0.1', '192.0.2.2'].includes(ip)) return 'no-address'
      const asked = port ?? parsePort(next++)
      return listeners.includes(`${protocol} ${ip} ${asked}`) ? 'taken' : asked
    },
  }
}

const choose = (texts: readonly string[], context = host()): string[] =>
  choosePorts(texts.map(parsePublish), context).map(formatPublication)

describe('choosePorts()', () => {
  test.each<[readonly string[], readonly string[]]>([
    [['8080:80'], ['*:8080->80/tcp']],
    [['8080-8081:80-81/udp'], ['*:8080->80/udp', '*:8081->81/udp']],
    [['80'], ['*:40000->80/tcp']],
    [['80-81'], ['*:40000->80/tcp', '*:40001->81/tcp']],
    [['7000-7005:80'], ['*:7001->80/tcp']],
    [['192.0.2.2:7000:80'], ['192.0.2.2:7000->80/tcp']],
    [['7000:80/udp'], ['*:7000->80/udp']],
  ])('%j becomes %j', (texts, expected) => {
    expect(choose(texts)).toEqual(expected)
  })

  test('a free port is one that is free in every family', () => {
    expect(choose(['80'], host(['tcp :: 40000', 'tcp :: 40001']))).toEqual(['*:40002->80/tcp'])
  })

  test.each<[readonly string[], string]>([
    [['7000:80'], 'cannot publish tcp port *:7000: pod default/other has published it as 127.0.0.1:7000'],
    [['22:80'], 'cannot publish tcp port *:22: a program of this host listens there ("ss -lnp sport = :22" shows it)'],
    [['192.0.2.9:8080:80'], 'cannot publish tcp port 192.0.2.9:8080: this host has no address 192.0.2.9'],
    [['192.0.2.9::80'], 'cannot publish at 192.0.2.9: this host has no such address'],
    [['8080:80', '8080:81'], 'cannot publish tcp port *:8080: it is asked for twice'],
    [['7000-7000:80'], 'cannot publish tcp port *:7000'],
    [['21-22:80-81'], 'cannot publish tcp port *:22'],
  ])('refuses %j: %s', (texts, message) => {
    expect(() => choose(texts, host(['tcp :: 22']))).toThrow(PublishError)
    expect(() => choose(texts, host(['tcp :: 22']))).toThrow(message)
  })

  test('refuses an address of a family that the endpoint does not have, and networks that publish nothing', () => {
    expect(() => choose(['[::]:8080:80'], host([], [4]))).toThrow('cannot publish at :: (expected an IPv4 address')
    expect(() => choose(['8080:80'], host([], []))).toThrow('nothing can be published in this network')
  })
})
