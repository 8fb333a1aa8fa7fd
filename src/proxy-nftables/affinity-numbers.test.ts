import { describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { AffinityNumbers } from './affinity-numbers.ts'
import { compileServices, defaultProxySettings } from '../proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import type { Affinity, ServiceFrontends } from '../proxy/frontends.ts'
import {
  classFromNumber,
  classKinds,
  classNumber,
  memberFromNumber,
  memberNumber,
  type FrontendClass,
} from './nftables-numbers.ts'

const endpoint = (last: number) => ({ ip: parseIp(`10.0.0.${last}`), port: 8080 as Port })

function sticky(name: string, endpoints: readonly number[]): ServiceFrontends {
  const service = exampleService(name, { sessionAffinity: { kind: 'ClientIP', timeoutSeconds: 60 } })
  const slice = exampleSlice(
    service,
    endpoints.map((n) => `10.0.0.${n}`),
  )
  const compiled = compileServices(exampleSnapshot([[service, slice]]), {
    nodeName: 'here',
    settings: defaultProxySettings,
  })
  return compiled.services.get(`default/${name}`)!
}

const affinityOf = (service: ServiceFrontends): Affinity => service.frontends[0]!.affinity!
const membersOf = (numbers: AffinityNumbers, service: ServiceFrontends, endpoints: readonly number[]) =>
  endpoints.map((n) => numbers.memberNumber(affinityOf(service), endpoint(n)))

describe('AffinityNumbers', () => {
  test('claim() gives each group and endpoint a number, and keeps those that exist', () => {
    const numbers = new AffinityNumbers()
    const [a, b] = [sticky('a', [1, 2]), sticky('b', [1])]
    numbers.claim(a)
    numbers.claim(b)
    numbers.claim(sticky('a', [3, 2]))
    expect([a, b].map((service) => numbers.groupNumber(affinityOf(service)))).toEqual([0, 1])
    expect(membersOf(numbers, a, [1, 2, 3])).toEqual([1, 2, 3])
    expect(membersOf(numbers, b, [1])).toEqual([1])
  })

  test('claim() gives endpoints that share an address numbers of their own, the same at every port of the Service', () => {
    const service = exampleService('web', {
      annotations: { 'fairlead.dev/affinity-scope': 'service' },
      sessionAffinity: { kind: 'ClientIP', timeoutSeconds: 60 },
      ports: ['http=80/tcp', 'admin=81/tcp'],
    })
    const slices = [8080, 9080].map((first) =>
      exampleSlice(service, ['192.0.2.1'], {
        name: `web-${first}`,
        ports: [`http=${first}/tcp`, `admin=${first + 1}/tcp`],
      }),
    )
    const compiled = compileServices(exampleSnapshot([[service, ...slices]]), {
      nodeName: 'here',
      settings: defaultProxySettings,
    })
    const numbers = new AffinityNumbers()
    const web = compiled.services.get('default/web')!
    numbers.claim(web)
    const given = web.frontends.map(({ affinity, verdict }) =>
      verdict.kind === 'balance' ? verdict.slots.map((slot) => numbers.memberNumber(affinity!, slot)) : [],
    )
    expect(given).toEqual([
      [1, 2],
      [1, 2],
    ])
  })

  test('release() frees what went, and a new endpoint does not get its number at once', () => {
    const numbers = new AffinityNumbers()
    const [before, after] = [sticky('a', [1, 2]), sticky('a', [2])]
    numbers.claim(before)
    numbers.claim(after)
    numbers.release(before, after)
    numbers.claim(sticky('a', [2, 4]))
    expect(membersOf(numbers, before, [1, 2, 4])).toEqual([undefined, 2, 3])
    numbers.release(sticky('a', [2, 4]), undefined)
    expect(numbers.groupNumber(affinityOf(before))).toBeUndefined()
  })

  test('releaseAllBut() keeps what some Service needs', () => {
    const numbers = new AffinityNumbers()
    const [a, b] = [sticky('a', [1, 2]), sticky('b', [1])]
    for (const service of [a, b]) numbers.claim(service)
    numbers.releaseAllBut([sticky('a', [2])])
    expect(membersOf(numbers, a, [1, 2])).toEqual([undefined, 2])
    expect(numbers.groupNumber(affinityOf(b))).toBeUndefined()
  })

  test('adopt() takes what the kernel holds, and new ones go on after it', () => {
    const numbers = new AffinityNumbers()
    const [a, b] = [sticky('a', [1, 2]), sticky('b', [1])]
    numbers.adopt(affinityOf(a), { group: 7, members: [{ endpoint: endpoint(2), number: 9 }] })
    // Somebody else's number, or one that is known otherwise, is not taken.
    numbers.adopt(affinityOf(b), { group: 7, members: [{ endpoint: endpoint(1), number: 3 }] })
    numbers.adopt(affinityOf(a), { group: 8, members: [{ endpoint: endpoint(1), number: 1 }] })
    for (const service of [a, b]) numbers.claim(service)
    expect(numbers.groupNumber(affinityOf(a))).toBe(7)
    expect(membersOf(numbers, a, [1, 2])).toEqual([10, 9])
    expect(numbers.groupNumber(affinityOf(b))).toBe(0)
  })
})

test('classNumber() has a number for each class, and classFromNumber() knows them again', () => {
  const classes: FrontendClass[] = [{ kind: 'reject' }, { kind: 'drop' }]
  for (const kind of classKinds) {
    for (const family of [4, 6] as const) {
      for (const algorithm of ['random', 'maglev', 'round-robin'] as const) {
        for (const slots of [1, 65_535]) classes.push({ kind, family, choice: { algorithm, slots } })
      }
      for (const affinitySeconds of [1, 86_400]) classes.push({ kind, family, choice: { affinitySeconds } })
    }
  }
  const numbers = classes.map(classNumber)
  expect(new Set(numbers).size).toBe(classes.length)
  expect(numbers.map(classFromNumber)).toEqual(classes)
  expect(numbers.every((number) => number >= 0xe000_0000 && number <= 0xffff_ffff)).toBe(true)
  expect([0, 0xc000_0001, 0xe000_0000, 0xf0e0_0001, 0xf1a0_0000].map(classFromNumber)).toEqual(Array(5).fill(undefined))
})

test.each([
  [0, 0, 0xc000_0000],
  [1, 3, 0xc000_0803],
  [2 ** 18 - 1, 2047, 0xdfff_ffff],
])('memberNumber() of group %i, endpoint %i is known again', (group, member, number) => {
  expect(memberNumber(group, member)).toBe(number)
  expect(memberFromNumber(number)).toEqual({ group, member })
})
