import { describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { emptySnapshot } from '../model/snapshot.ts'
import { ClusterZone } from './cluster-zone.ts'
import { Cookies } from './cookies.ts'
import { DnsCounts } from './dns-counts.ts'
import { extendedErrors } from '../dns-message/record-set.ts'
import type { Query } from '../dns-message/query.ts'
import { resolveQuery } from './resolve.ts'
import { respond } from './respond.ts'

const clientCookie = '0102030405060708'
const question = '0161 07 636c7573746572 05 6c6f63616c 00 0001 0001'

/** The EDNS options of the response: everything behind the OPT record's fixed part, by code. */
function optionsOf(response: Buffer): Map<number, string> {
  const start = response.indexOf(Buffer.from('00002904d0', 'hex')) + 11
  const options = new Map<number, string>()
  for (let at = start; at < response.length;) {
    const length = response.readUInt16BE(at + 2)
    options.set(response.readUInt16BE(at), response.toString('hex', at + 4, at + 4 + length))
    at += 4 + length
  }
  return options
}

function ask(
  hex: string,
  { cookies = new Cookies(), address = '10.0.0.1', lostFor = (): number | undefined => undefined, synced = false } = {},
): Buffer {
  const responses: Buffer[] = []
  const client = { address, send: (response: Buffer) => responses.push(response) }
  const forwarder = { forward: () => Promise.reject(new Error('not asked')), isReturning: () => false }
  const zone = new ClusterZone()
  zone.update(emptySnapshot, synced)
  const context = { lostFor, zone, forwarder, names: undefined, version: undefined, client: address }
  const counts = new DnsCounts()
  const resolver = { counts, resolve: (query: Query) => resolveQuery(query, context) }
  const options = { resolverOf: () => resolver, log: silentLog, cookies, counts, rotation: { next: 0 } }
  respond(Buffer.from(hex.replaceAll(' ', ''), 'hex'), 'udp', { client, options })
  return responses[0] ?? Buffer.alloc(0)
}

const withCookie = (cookie: string) =>
  `1234 0100 0001 0000 0000 0001 ${question} 00 0029 04d0 00000000 00${(cookie.length / 2 + 4).toString(16).padStart(2, '0')} 000a 00${(cookie.length / 2).toString(16).padStart(2, '0')} ${cookie}`

describe('Cookies', () => {
  test('respond() sends the client its own cookie back, with 16 octets of ours', () => {
    const cookie = optionsOf(ask(withCookie(clientCookie))).get(10)
    expect(cookie).toMatch(/^0102030405060708[0-9a-f]{32}$/)
  })

  test('serverCookie() is the same for one client, and another one for other addresses, client cookies and processes', () => {
    const cookies = new Cookies()
    const one = cookies.serverCookie(Buffer.from(clientCookie, 'hex'), '10.0.0.1')
    expect(cookies.serverCookie(Buffer.from(clientCookie, 'hex'), '10.0.0.1')).toEqual(one)
    expect(cookies.serverCookie(Buffer.from(clientCookie, 'hex'), '10.0.0.2')).not.toEqual(one)
    expect(cookies.serverCookie(Buffer.alloc(8), '10.0.0.1')).not.toEqual(one)
    expect(new Cookies().serverCookie(Buffer.from(clientCookie, 'hex'), '10.0.0.1')).not.toEqual(one)
  })

  test('respond() does not send back a server part that it does not know', () => {
    const cookies = new Cookies()
    const fresh = optionsOf(ask(withCookie(clientCookie), { cookies })).get(10)
    expect(optionsOf(ask(withCookie(`${clientCookie}${'ff'.repeat(32)}`), { cookies })).get(10)).toBe(fresh)
  })

  test('respond() says that the cluster is not heard any more, and still answers', () => {
    const query = `1234 0100 0001 0000 0000 0001 ${question} 00 0029 04d0 00000000 0000`
    const known = query.replace('0161 07', '07').replace('0001 0001 00', '0006 0001 00')
    const lost = { synced: true, lostFor: () => 61.2 }
    expect(optionsOf(ask(query, lost)).get(15)).toBe(
      `0013${Buffer.from('the cluster was last heard 61 s ago').toString('hex')}`,
    )
    expect(optionsOf(ask(known, lost)).get(15)).toMatch(/^0003/)
    expect(optionsOf(ask(query, { synced: true })).get(15)).toBeUndefined()
  })

  test('respond() says why in an extended error, only to who speaks EDNS (RFC 8914)', () => {
    const code = extendedErrors.NOT_READY.toString(16).padStart(4, '0')
    expect(optionsOf(ask(`1234 0100 0001 0000 0000 0001 ${question} 00 0029 04d0 00000000 0000`)).get(15)).toMatch(
      new RegExp(`^${code}`),
    )
    expect(ask(`1234 0100 0001 0000 0000 0000 ${question}`).readUInt16BE(10)).toBe(0)
  })
})
