import { expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { parseName } from './name.ts'
import { printRecords } from './print-records.ts'
import { addressSets, nameSet, recordClasses, recordTypes, soaSet, srvSet, textSet } from './record-set.ts'
import { parseType, typeName } from './type-names.ts'

const owner = parseName('web.shop.svc.cluster.local')
const options = { owner, ttl: 5 }

test('printRecords() writes each type as zone files have it', () => {
  const sets = [
    ...addressSets([parseIp('10.96.0.80'), parseIp('fd00::80')], options),
    srvSet([{ priority: 0, weight: 50, port: 80, target: owner }], options),
    nameSet(recordTypes.CNAME, [parseName('a.example')], options),
    textSet(recordTypes.TXT, ['a "b"', 'c\\'], options),
    soaSet({
      ...options,
      primary: parseName('ns.dns.cluster.local'),
      mailbox: parseName('hostmaster.cluster.local'),
      serial: 7,
      refresh: 1,
      retry: 2,
      expire: 3,
      minimum: 4,
    }),
    { ...options, type: 65_534, class: recordClasses.IN, rdata: [[Uint8Array.of(1, 255)], []] },
  ]
  expect(printRecords(sets).map((line) => line.replace('web.shop.svc.cluster.local. 5 ', ''))).toEqual([
    'A 10.96.0.80',
    'AAAA fd00::80',
    'SRV 0 50 80 web.shop.svc.cluster.local.',
    'CNAME a.example.',
    String.raw`TXT "a \"b\"" "c\\"`,
    'SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 1 2 3 4',
    String.raw`TYPE65534 \# 2 01ff`,
    String.raw`TYPE65534 \# 0`,
  ])
})

test('parseType() reads names in any case and numbers, and says what it wants', () => {
  expect([parseType('aaaa'), parseType('TYPE65'), typeName(33), typeName(65_535)]).toEqual([28, 65, 'SRV', 'TYPE65535'])
  for (const text of ['', 'TYPE', 'TYPE65536', 'toString', 'AAAAA'])
    expect(() => parseType(text)).toThrow(/is not a record type \(expected like A/)
})
