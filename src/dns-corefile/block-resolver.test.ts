import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { Resolver } from '../dns/resolver.ts'
import { snapshotOf } from '../dns/testing.ts'
import { parseName } from '../dns-message/name.ts'
import { printRecords } from '../dns-message/print-records.ts'
import { rcodes, recordClasses } from '../dns-message/record-set.ts'
import { parseType } from '../dns-message/type-names.ts'
import { openBlock } from './block-resolver.ts'
import { ForwardTable } from './forward-table.ts'
import { parseCorefile } from './parse-corefile.ts'

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true })
})

function block(text: string) {
  const options = { file: 'Corefile', env: {}, path: (path: string) => path, importFiles: () => [] }
  const [first] = parseCorefile(`. {\n${text}\n}`, options).blocks
  if (!first) throw new Error('no block')
  return first
}

/** What a server block answers about a small cluster. */
async function ask(text: string, question: string): Promise<string> {
  using parts = openBlock(block(text), { log: silentLog, addresses: [], lostFor: () => undefined, searchDomains: [] })
  using resolver = new Resolver(parts.options, [])
  resolver.update(snapshotOf({ 'shop/web': { ips: ['172.30.4.10'] }, 'data/db': { ips: ['172.30.4.20'] } }), true)
  const [name = '', type = ''] = question.split(' ')
  const answer = await resolver.resolve(
    {
      id: 1,
      recursionDesired: true,
      checkingDisabled: false,
      authenticData: false,
      question: { name: parseName(name), type: parseType(type), class: recordClasses.IN },
      edns: undefined,
    },
    '192.0.2.1',
  )
  const code = Object.entries(rcodes).find(([, code]) => code === answer.rcode)?.[0] ?? ''
  return [code, ...printRecords(answer.answer)].join(' | ')
}

describe('openBlock()', () => {
  const kubernetes = 'kubernetes cluster.local in-addr.arpa'
  test.each([
    [kubernetes, 'web.shop.svc.cluster.local A', 'NOERROR | web.shop.svc.cluster.local. 5 A 172.30.4.10'],
    // Nobody is asked: there is no forward.
    [kubernetes, 'www.example.com A', 'REFUSED'],
    [
      kubernetes,
      '10.4.30.172.in-addr.arpa PTR',
      'NOERROR | 10.4.30.172.in-addr.arpa. 5 PTR web.shop.svc.cluster.local.',
    ],
    // Without fallthrough what nobody has does not exist; with it others are asked.
    [kubernetes, '9.9.9.10.in-addr.arpa PTR', 'NXDOMAIN'],
    [`${kubernetes} {\nfallthrough in-addr.arpa\n}`, '9.9.9.10.in-addr.arpa PTR', 'REFUSED'],
    // Reverse zones that are not named are not ours.
    ['kubernetes cluster.local', '10.4.30.172.in-addr.arpa PTR', 'REFUSED'],
    [`${kubernetes} {\nfallthrough\n}`, 'nope.shop.svc.cluster.local A', 'REFUSED'],
    [`${kubernetes} {\nnamespaces data\n}`, 'web.shop.svc.cluster.local A', 'NXDOMAIN'],
    [
      `${kubernetes} {\nnamespaces data\n}`,
      'db.data.svc.cluster.local A',
      'NOERROR | db.data.svc.cluster.local. 5 A 172.30.4.20',
    ],
    [`${kubernetes} {\nignore empty_service\n}`, 'web.shop.svc.cluster.local A', 'NXDOMAIN'],
    [kubernetes, '10-0-0-1.shop.pod.cluster.local A', 'NXDOMAIN'],
    [
      `${kubernetes}\nrewrite name old.example web.shop.svc.cluster.local`,
      'old.example A',
      'NOERROR | old.example. 5 A 172.30.4.10',
    ],
    [`${kubernetes}\nhosts {\n192.0.2.7 nas.home\n}`, 'nas.home A', 'NOERROR | nas.home. 3600 A 192.0.2.7'],
    // A hosts block without fallthrough speaks for all names of its zones, as in CoreDNS.
    [`${kubernetes}\nhosts {\n192.0.2.7 nas.home\n}`, 'web.shop.svc.cluster.local A', 'NXDOMAIN'],
    [`${kubernetes}\nacl {\nblock net 192.0.2.0/24\n}`, 'web.shop.svc.cluster.local A', 'REFUSED'],
  ])('openBlock() of %j says of %s: %s', async (text, question, expected) => {
    expect(await ask(text, question)).toBe(expected)
  })
})

describe('ForwardTable', () => {
  const open = (text: string) => new ForwardTable(block(text).forwards, { isOwn: () => false, log: silentLog })
  const keys = (table: ForwardTable, name: string) => table.serversOf(parseName(name)).map(({ key }) => key)

  test('ForwardTable takes the line with the longest domain, and leaves exceptions out', () => {
    using table = open('forward . 10.0.0.1 {\nexcept secret.example\n}\nforward corp.example 10.0.0.2')
    expect(keys(table, 'www.example.com')).toEqual(['10.0.0.1'])
    expect(keys(table, 'a.corp.example')).toEqual(['10.0.0.2'])
    expect(table.forwards(parseName('a.secret.example').key)).toBe(false)
    expect(table.coversAll).toBe(false)
  })

  test('ForwardTable asks in the order of its policy', () => {
    using sequential = open('forward . 10.0.0.1 10.0.0.2 {\npolicy sequential\n}')
    using roundRobin = open('forward . 10.0.0.1 10.0.0.2 {\npolicy round_robin\n}')
    using random = open('forward . 10.0.0.1 10.0.0.2')
    expect([1, 2].map(() => keys(sequential, 'a.example')[0])).toEqual(['10.0.0.1', '10.0.0.1'])
    expect([1, 2, 3].map(() => keys(roundRobin, 'a.example')[0])).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.1'])
    const first = Array.from({ length: 64 }, () => keys(random, 'a.example')[0])
    expect(new Set(first).size).toBe(2)
  })

  test('ForwardTable reads a file of resolvers', () => {
    const folder = mkdtempSync(join(tmpdir(), 'fairlead-forward-'))
    folders.push(folder)
    writeFileSync(join(folder, 'resolv.conf'), 'nameserver 10.0.0.53\nnameserver 10.0.0.54\n')
    using table = open(`forward . ${folder}/resolv.conf {\npolicy sequential\n}`)
    expect(keys(table, 'a.example')).toEqual(['10.0.0.53', '10.0.0.54'])
    expect(table.coversAll).toBe(true)
  })
})
