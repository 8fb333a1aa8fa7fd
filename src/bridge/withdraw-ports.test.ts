import { describe, expect, test } from 'vitest'
import { parsePublication, parsePublish, type Publication } from './publication.ts'
import { parseWithdraw, splitByNetwork, withdrawPublications } from './withdraw-ports.ts'

const web = parsePublication({ hostPort: 8080, port: 80, protocol: 'tcp' })
const local = parsePublication({ hostIp: '127.0.0.1', hostPort: 53, port: 5353, protocol: 'udp' })
const six = parsePublication({ hostIp: '2001:db8::2', hostPort: 8080, port: 80, protocol: 'tcp' })
const published: readonly Publication[] = [web, local, six]

describe('withdrawPublications()', () => {
  test.each<[string, readonly Publication[]]>([
    ['8080', [web, six]],
    ['*:8080->80/tcp', [web, six]],
    ['[2001:db8::2]:8080', [six]],
    ['127.0.0.1:53/udp', [local]],
    ['53/UDP', [local]],
  ])('%s ends what it means, and nothing else', (text, withdrawn) => {
    const kept = published.filter((one) => !withdrawn.includes(one))
    expect(withdrawPublications({ published }, [parseWithdraw(text)])).toEqual({ kept, withdrawn })
  })

  test.each(['53', '8080/udp', '127.0.0.2:53/udp', '9090'])('%s is not published, and says so', (text) => {
    expect(() => withdrawPublications({ published }, [parseWithdraw(text)])).toThrow(/is not published/)
  })
})

describe('splitByNetwork()', () => {
  const leases = [{ network: 'a', published: [web] }, { network: 'b', published: [local] }, { network: 'c' }]
  const split = (texts: readonly string[], network?: string) =>
    splitByNetwork(
      { publish: [], withdraw: texts.map(parseWithdraw), ...(network !== undefined && { network }) },
      { first: 'a', leases },
    ).map(({ network, withdraw }) => [network, ...withdraw.map(({ hostPort }) => hostPort)])

  test.each<[string, readonly string[], string | undefined, unknown[]]>([
    [
      'each port where it is',
      ['53/udp', '8080'],
      undefined,
      [
        ['b', 53],
        ['a', 8080],
      ],
    ],
    ['a port that is nowhere of the first', ['9'], undefined, [['a', 9]]],
    ['all of the named one', ['8080'], 'b', [['b', 8080]]],
  ])('asks %s', (_, texts, network, expected) => {
    expect(split(texts, network)).toEqual(expected)
  })

  test('publishes in the first network, or in the named one', () => {
    const publish = [parsePublish('80')]
    const host = { first: 'a', leases }
    expect(splitByNetwork({ publish, withdraw: [] }, host)).toEqual([{ network: 'a', publish, withdraw: [] }])
    expect(splitByNetwork({ publish, withdraw: [], network: 'c' }, host)).toMatchObject([{ network: 'c' }])
  })
})

describe('parseWithdraw()', () => {
  test.each(['', 'http', '::1:80', '1.2.3:80', '70000', '80/sctp', '8080:80'])('"%s" is refused', (text) => {
    expect(() => parseWithdraw(text)).toThrow(/^published port /)
  })
})
