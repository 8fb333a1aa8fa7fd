import { describe, expect, test } from 'vitest'
import { defaultWorkers } from '../dns/fast-path.ts'
import { ManifestReader } from '../model/manifest-reader.ts'
import { readDns } from './dns-config.ts'

function read(manifest: object) {
  const reader = ManifestReader.of(manifest)
  const config = readDns(reader, (path) => `/etc/fairlead/${path}`)
  return { config, problems: reader.problems.map(({ path, reason }) => `${path}: ${reason}`) }
}

describe('readDns', () => {
  test('readDns has the defaults of a kubeadm cluster', () => {
    expect(read({}).config).toEqual({
      addresses: ['10.96.0.10'],
      port: 53,
      zone: 'cluster.local',
      ttl: 5,
      workers: defaultWorkers(),
      pods: 'insecure',
      resolvConf: '/etc/resolv.conf',
      upstreams: undefined,
      domains: [],
      hosts: [],
      hostsFile: undefined,
      externalZones: [],
      serverSideSearch: false,
      listen: { metrics: undefined, ready: undefined, health: undefined },
      log: undefined,
    })
    expect(read({ enabled: false }).config).toBeUndefined()
  })

  test('readDns reads resolvers, for all names and for those of a domain', () => {
    const { config, problems } = read({
      pods: 'verified',
      upstreams: ['tls://9.9.9.9#dns.quad9.net'],
      domains: { 'Corp.Example.': ['10.1.1.53', '10.1.2.53:5353'] },
    })
    expect(problems).toEqual([])
    expect(config?.pods).toBe('verified')
    expect(config?.upstreams).toMatchObject([{ address: '9.9.9.9', port: 853, tls: { serverName: 'dns.quad9.net' } }])
    expect(config?.domains[0]?.domain.key).toBe('\x04corp\x07example\0')
    expect(config?.domains[0]?.servers.map(({ key }) => key)).toEqual(['10.1.1.53', '10.1.2.53:5353'])
  })

  test('readDns reads names that are written down, ports and what is logged', () => {
    const { config, problems } = read({
      hosts: { 'nas.home': ['192.0.2.7', 'fd00::7'] },
      hostsFile: 'hosts',
      externalZones: ['ext.example'],
      metricsListen: '0.0.0.0:9153',
      log: { clients: ['10.0.0.0/8', '192.0.2.1'], rcodes: ['nxdomain'], types: ['AAAA'], oneIn: 10 },
    })
    expect(problems).toEqual([])
    expect(config?.hosts.map(({ address }) => address)).toEqual(['192.0.2.7', 'fd00::7'])
    expect(config?.hostsFile).toBe('/etc/fairlead/hosts')
    expect(config?.listen).toEqual({ metrics: { host: '0.0.0.0', port: 9153 }, ready: undefined, health: undefined })
    expect(config?.log).toMatchObject({ rcodes: new Set([3]), types: new Set([28]), oneIn: 10 })
    expect(config?.log).not.toHaveProperty('names')
    expect(read({ log: { enabled: false } }).config?.log).toBeUndefined()
  })

  test.each([
    [{ hosts: { 'nas.home': ['nowhere'] } }, 'hosts.nas.home[0]: "nowhere" is not an IP address'],
    [{ hosts: { 'nas.home': [] } }, 'hosts.nas.home: has no address (expected a list of them)'],
    [{ log: { rcodes: ['NOPE'] } }, 'log.rcodes[0]: "NOPE" is not a response code (expected one of NOERROR'],
    [{ log: { oneIn: 0 } }, 'log.oneIn: 0'],
    [{ readyListen: '8181' }, 'readyListen: "8181" is not an address to listen on'],
    [{ upstreams: ['dns.example'] }, 'upstreams[0]: "dns.example" is not a resolver'],
    [{ upstreams: ['10.96.0.10'] }, 'upstreams: "10.96.0.10" is the cluster DNS itself'],
    [{ domains: { 'corp.example': [] } }, 'domains.corp.example: names no resolver'],
    [{ domains: { 'corp.example': '10.1.1.53' } }, 'domains.corp.example: "10.1.1.53" is not a list'],
    [{ domains: { 'corp..example': ['10.1.1.53'] } }, 'domains.corp..example: "corp..example" is not a domain name'],
    [{ pods: 'all' }, 'pods: "all" is not known'],
    [{ zone: 'a b' }, 'zone: "a b" is not a DNS zone'],
  ])('readDns says what is wrong with %j', (manifest, problem) => {
    expect(read(manifest).problems.join('\n')).toContain(problem)
  })
})
