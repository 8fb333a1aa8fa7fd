import { describe, expect, test } from 'vitest'
import { bridgeFindings, type BridgeFacts } from './bridge-findings.ts'

const bridge = (index: number, name: string, network?: string): BridgeFacts => {
  return { index, name, kind: 'bridge', alias: network && `fairlead network ${network}`, master: undefined }
}
const ports = (master: number, count: number): BridgeFacts[] =>
  Array.from({ length: count }, (_, number) => {
    return { index: 1000 * master + number, name: `v${number}`, kind: 'veth', alias: undefined, master }
  })

describe('bridgeFindings()', () => {
  test.each<[string, readonly BridgeFacts[], string[]]>([
    ['nothing without bridges of ours', [bridge(1, 'docker0'), ...ports(1, 1000)], []],
    [
      'the fullest while there is room',
      [bridge(1, 'fl0', 'default'), bridge(2, 'fl-back', 'back'), ...ports(2, 818)],
      ['ok bridges: 2 of ours; the fullest, fl-back, has 818 of 1023 ports'],
    ],
    [
      'each that is nearly full',
      [bridge(1, 'fl0', 'default'), bridge(2, 'fl-back', 'back'), ...ports(1, 1), ...ports(2, 819)],
      ['note bridge fl-back: 819 of 1023 ports are in use; pods beyond that are refused'],
    ],
  ])('finds %s', (_, links, expected) => {
    const words = bridgeFindings(links).map(({ ok, name, detail }) => `${ok ? 'ok' : 'note'} ${name}: ${detail}`)
    expect(words).toEqual(expected)
  })
})
