import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ConfigError, defaultConfig, loadConfig, parseConfig } from './config.ts'

const parse = (raw: unknown) => parseConfig(raw, { origin: 'fairlead.yaml', relativeTo: '/etc/fairlead' })

describe('parseConfig()', () => {
  test('fills in defaults for an empty file', () => {
    const config = defaultConfig()
    expect(config.network).toMatchObject({ name: 'default', bridge: 'fl0', mtu: undefined, masquerade: true })
    expect(config.dns?.addresses).toEqual(['10.96.0.10'])
    expect(config.http.listen).toEqual({ host: '127.0.0.1', port: 10_249 })
    expect(config.cleanupOnExit).toBe(false)
  })

  test.each([
    ['none', {}, '127.0.0.1'],
    [
      'one, beside a followed one',
      { sources: { kubernetes: { kubeconfig: 'k' } }, api: { enabled: true } },
      '127.0.0.1',
    ],
    ['a followed one', { sources: { kubernetes: { kubeconfig: 'k' } } }, undefined],
    ['no api', { api: { enabled: false } }, undefined],
  ])('has an API of its own unless told otherwise: told %s', (_, raw, host) => {
    expect(parse(raw).api?.listen.host).toBe(host)
  })

  test('takes paths as relative to the file', () => {
    expect(parse({ sources: { files: ['manifests'] } }).sources.files).toEqual(['/etc/fairlead/manifests'])
  })

  test('takes resolvConf as relative to the file, too', () => {
    expect(parse({ dns: { resolvConf: 'resolv.conf' } }).dns?.resolvConf).toBe('/etc/fairlead/resolv.conf')
  })

  test('names 20 problems at most', () => {
    const keys = Array.from({ length: 300_000 }, (_, i) => [`key${i}`, 1])
    expect(() => parse(Object.fromEntries(keys))).toThrow(/^.{100,5000}; and 299980 more$/)
  })

  test('switches parts off', () => {
    const config = parse({ network: { enabled: false }, dns: { enabled: false }, http: { enabled: false } })
    expect([config.network, config.dns, config.http.listen]).toEqual([undefined, undefined, undefined])
  })

  test('reads every option of a network', () => {
    const { networks } = parse({
      networks: [
        {
          name: 'b',
          subnets: ['10.1.0.0/24', '10.2.0.0/24'],
          gateways: ['10.2.0.9'],
          ipRanges: ['10.1.0.128/25'],
          auxAddresses: { router: '10.1.0.7' },
          ipv6: false,
          internal: true,
          icc: false,
          masquerade: '192.0.2.7',
          gatewayMode: { ipv4: 'routed' },
          mtu: 1400,
          hairpin: false,
          interfaceName: 'net0',
          labels: { team: 'shop' },
        },
      ],
    })
    const [ipv4, other] = ['10.1.0.0', '10.2.0.0'].map((address) => ({ address, prefix: 24 }))
    expect(networks).toEqual([
      {
        name: 'b',
        bridge: 'fl-b',
        subnets: [ipv4, other],
        gateways: ['10.2.0.9'],
        ipRanges: [{ address: '10.1.0.128', prefix: 25 }],
        auxAddresses: { router: '10.1.0.7' },
        without: [6],
        internal: true,
        icc: false,
        masquerade: ['192.0.2.7'],
        gatewayModes: { 4: 'routed' },
        mtu: 1400,
        hairpin: false,
        interfaceName: 'net0',
        labels: { team: 'shop' },
      },
    ])
  })

  const refused: [string, unknown, RegExp][] = [
    ['a typo with what was meant', { netwrok: {} }, /netwrok: unknown key \(did you mean network\?\)/],
    ['a nested typo', { dns: { adresses: [] } }, /dns\.adresses: unknown key \(did you mean addresses\?\)/],
    ['an unknown key with the known ones', { x: 1 }, /x: unknown key \(expected one of: nodeName, /],
    ['a wrong type', { cleanupOnExit: 'yes' }, /cleanupOnExit: "yes" is not a boolean/],
    ['a network with host bits', { network: { subnets: ['10.1.2.3/16'] } }, /network\.subnets\[0\]: .*10\.1\.0\.0\/16/],
    ['a network without name', { networks: [{ internal: true }] }, /networks\[0\]\.name: is missing/],
    [
      'a typo in one of the networks',
      { networks: [{ name: 'b', iccc: true }] },
      /networks\[0\]\.iccc: .*did you mean icc/,
    ],
    ['a driver that is none', { network: { driver: 'overlay' } }, /network\.driver: "overlay" is not known here/],
    ['a gateway mode that is none', { network: { gatewayMode: 'open' } }, /network\.gatewayMode: "open" is not known/],
    ['neither family', { network: { ipv4: false, ipv6: false } }, /network\.ipv6: is false, as is ipv4/],
    [
      'two source addresses of a family',
      { network: { masquerade: ['192.0.2.1', '192.0.2.2'] } },
      /network\.masquerade: .*expected at most one source address per family/,
    ],
    [
      'an unusable bridge name',
      { network: { bridge: 'a-name-that-is-too-long' } },
      /network\.bridge: .*1 to 15 characters/,
    ],
    ['an mtu out of range', { network: { mtu: 500 } }, /network\.mtu: 500 is not a whole number from 1280 to 65535/],
    [
      'a listener without port',
      { http: { listen: '127.0.0.1' } },
      /http\.listen: "127\.0\.0\.1" is not an address to listen on/,
    ],
    ['something that is no object', 'text', /is not an object/],
    ['an empty path', { stateDir: '' }, /stateDir: is empty/],
    ['an empty name', { nodeName: ' ' }, /nodeName: is empty/],
    [
      'a DNS address that no bridge can have',
      { dns: { addresses: ['127.0.0.1'] } },
      /dns\.addresses\[0\]: .*loopback \(127\.0\.0\.0\/8\)/,
    ],
  ]
  test.each(refused)('refuses %s', (_, raw, message) => {
    expect(() => parse(raw)).toThrow(ConfigError)
    expect(() => parse(raw)).toThrow(message)
  })

  test('lists all problems at once', () => {
    expect(() => parse({ netwrok: {}, network: { mtu: 1 } })).toThrow(/netwrok.*; .*|network\.mtu.*netwrok/s)
  })
})

describe('loadConfig()', () => {
  const load = (text: string) => {
    const folder = mkdtempSync(join(tmpdir(), 'fairlead-config-'))
    try {
      const file = join(folder, 'fairlead.yaml')
      writeFileSync(file, text)
      return loadConfig(file)
    } finally {
      rmSync(folder, { recursive: true })
    }
  }

  test.each(['', '# nothing but a comment\n', '---\n'])('takes a file without content as all defaults: %j', (text) => {
    expect(load(text)).toEqual(defaultConfig())
  })

  test.each([
    ['a second document', 'nodeName: a\n---\nnodeName: b\n', /has 2 documents \(expected one\)/],
    ['what is not YAML', 'a: [', /is not YAML/],
    ['a key that is there twice', 'nodeName: a\nnodeName: b\n', /duplicated mapping key/],
  ])('refuses %s', (_, text, message) => {
    expect(() => load(text)).toThrow(message)
  })
})
