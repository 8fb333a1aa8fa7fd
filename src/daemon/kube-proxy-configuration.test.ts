import { describe, expect, test } from 'vitest'
import { parseKubeProxyConfig } from './config.ts'
import { conntrackSysctls } from './conntrack-settings.ts'
import { kubeProxyApi, kubeProxyDefaults } from './kube-proxy-keys.ts'

const parse = (fields: object) => parseKubeProxyConfig({ ...kubeProxyApi, ...fields }, { origin: 'kube-proxy.yaml' })

describe('parseKubeProxyConfig()', () => {
  test('makes a daemon of it that proxies Services and does nothing else', () => {
    const config = parse({ hostnameOverride: ' Node-1 ' })
    expect(config).toMatchObject({ nodeName: 'node-1', networks: [], log: { level: 'info', format: 'text' } })
    expect([config.network, config.dns, config.http.listen]).toEqual([undefined, undefined, undefined])
    expect(config.services).toMatchObject({
      mode: 'iptables',
      serviceCIDRs: [],
      detectLocal: { kind: 'cluster', cidrs: [] },
      nodePortAddresses: ['primary'],
      masqueradeAll: false,
      masqueradeBit: 14,
      overdueMs: 60_000,
    })
    expect(config.kubeProxy).toMatchObject({
      healthz: { host: '0.0.0.0', port: 10_256 },
      metrics: { host: '127.0.0.1', port: 10_249 },
      oomScoreAdj: -999,
      notes: [],
      effective: { ...kubeProxyDefaults, hostnameOverride: ' Node-1 ' },
    })
  })

  test('takes what kubeadm writes, and says once what has no effect', () => {
    const config = parse({
      bindAddress: '0.0.0.0',
      bindAddressHardFail: false,
      clientConnection: { acceptContentTypes: '', burst: 0, contentType: '', kubeconfig: '/var/lib/x.conf', qps: 0 },
      clusterCIDR: '10.244.0.0/16',
      configSyncPeriod: '0s',
      conntrack: { maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, udpTimeout: '0s' },
      detectLocal: { bridgeInterface: '', interfaceNamePrefix: '' },
      detectLocalMode: '',
      enableProfiling: false,
      healthzBindAddress: '',
      iptables: {
        localhostNodePorts: null,
        masqueradeAll: false,
        masqueradeBit: null,
        minSyncPeriod: '0s',
        syncPeriod: '0s',
      },
      ipvs: { excludeCIDRs: null, minSyncPeriod: '0s', scheduler: 'rr', strictARP: false, syncPeriod: '0s' },
      logging: {
        flushFrequency: 0,
        options: { json: { infoBufferSize: '0' }, text: { infoBufferSize: '0' } },
        verbosity: 0,
      },
      metricsBindAddress: '',
      mode: '',
      nftables: { masqueradeAll: false, masqueradeBit: null, minSyncPeriod: '0s', syncPeriod: '0s' },
      nodePortAddresses: null,
      oomScoreAdj: null,
      portRange: '',
      showHiddenMetricsForVersion: '',
      winkernel: {
        enableDSR: false,
        forwardHealthCheckVip: false,
        networkName: '',
        rootHnsEndpointName: '',
        sourceVip: '',
      },
    })
    expect(config.services?.detectLocal).toEqual({ kind: 'cluster', cidrs: [{ address: '10.244.0.0', prefix: 16 }] })
    expect(config.kubeProxy?.notes.map((note) => note.split(' ')[0])).toEqual(['ipvs'])
  })

  test.each([
    [
      {
        mode: 'nftables',
        nftables: { masqueradeAll: true, masqueradeBit: 20, syncPeriod: '1m', minSyncPeriod: '1.5s' },
      },
      { masqueradeAll: true, masqueradeBit: 20, overdueMs: 120_000, minSyncPeriodMs: 1500 },
    ],
    [{ mode: 'iptables', nftables: { masqueradeAll: true } }, { masqueradeAll: false }],
    [
      { mode: 'userspace', iptables: { masqueradeAll: true } },
      { mode: 'userspace', masqueradeAll: true },
    ],
    [{ detectLocalMode: 'NodeCIDR' }, { detectLocal: { kind: 'node' } }],
    [
      { detectLocalMode: 'BridgeInterface', detectLocal: { bridgeInterface: 'cni0' } },
      { detectLocal: { kind: 'interface', name: 'cni0', prefix: false } },
    ],
    [
      { detectLocalMode: 'InterfaceNamePrefix', detectLocal: { interfaceNamePrefix: 'veth' } },
      { detectLocal: { kind: 'interface', name: 'veth', prefix: true } },
    ],
    [
      { nodePortAddresses: ['10.0.0.0/8', 'localhost'] },
      { nodePortAddresses: [{ address: '10.0.0.0', prefix: 8 }, 'localhost'] },
    ],
    [{ nodePortAddresses: [] }, { nodePortAddresses: ['primary'] }],
    [{ iptables: { localhostNodePorts: false } }, { localhostNodePorts: false }],
    [{ bindAddress: '192.0.2.7' }, { primaryAddress: '192.0.2.7' }],
  ])('reads %j', (fields, services) => {
    expect(parse(fields).services).toMatchObject(services)
  })

  test.each([
    [{ bindAddress: '::' }, { healthz: { host: '::', port: 10_256 }, metrics: { host: '::1', port: 10_249 } }],
    [{ healthzBindAddress: '127.0.0.1' }, { healthz: { host: '127.0.0.1', port: 10_256 } }],
    [{ metricsBindAddress: '[::]:9' }, { metrics: { host: '::', port: 9 } }],
  ])('listens as %j asks', (fields, parts) => {
    expect(parse(fields).kubeProxy).toMatchObject(parts)
  })

  test('mode ipvs takes its own section, and the rest from that of iptables', () => {
    const ipvs = { scheduler: 'lc', strictARP: true, tcpTimeout: '15m', minSyncPeriod: '2s', syncPeriod: '10s' }
    const { services, kubeProxy } = parse({ mode: 'ipvs', ipvs, iptables: { masqueradeAll: true } })
    expect(services).toMatchObject({
      mode: 'ipvs',
      ipvs: { scheduler: 'lc', strictARP: true, timeouts: { tcp: 900, tcpFin: 0, udp: 0 } },
      masqueradeAll: true,
      minSyncPeriodMs: 2000,
      overdueMs: 20_000,
    })
    expect(kubeProxy?.notes).toEqual([])
  })

  test('another mode does not care about the scheduler of ipvs', () => {
    expect(parse({ mode: 'nftables', ipvs: { scheduler: 'nosuch' } }).services?.mode).toBe('nftables')
  })

  test.each([
    [{ nodePortAdresses: [] }, 'nodePortAdresses: unknown key (did you mean nodePortAddresses?)'],
    [{ iptables: { syncperiod: '1s' } }, 'iptables.syncperiod: unknown key (did you mean syncPeriod?)'],
    [{ mode: 'ipvs', ipvs: { scheduler: 'nosuch' } }, 'ipvs.scheduler: "nosuch"'],
    [{ mode: 'kernelspace' }, 'mode: "kernelspace" is for Windows'],
    [{ mode: 'nft' }, 'mode: "nft" is not known here (expected nftables, iptables, ipvs or userspace)'],
    [{ iptables: { syncPeriod: '30' } }, 'iptables.syncPeriod: "30" is not a duration'],
    [{ iptables: { syncPeriod: '1s', minSyncPeriod: '2s' } }, 'iptables.syncPeriod: is shorter than minSyncPeriod'],
    [{ nftables: { masqueradeBit: 32 } }, 'nftables.masqueradeBit: 32 is not a whole number from 0 to 31'],
    [{ clusterCIDR: '10.0.0.0/8,10.1.0.0/16' }, 'clusterCIDR: more than one IPv4 network'],
    [{ clusterCIDR: '10.0.0.0' }, 'clusterCIDR: "10.0.0.0" is not a network'],
    [{ nodePortAddresses: ['eth0'] }, 'nodePortAddresses[0]: "eth0" is not known here (expected primary'],
    [{ detectLocalMode: 'BridgeInterface' }, 'detectLocal.bridgeInterface: is missing'],
    [{ detectLocalMode: 'none' }, 'detectLocalMode: "none" is not known here'],
    [{ healthzBindAddress: 'localhost:1' }, 'healthzBindAddress: "localhost:1" is not an address to listen on'],
    [{ oomScoreAdj: 1001 }, 'oomScoreAdj: 1001 is not a whole number'],
    [{ conntrack: { min: -1 } }, 'conntrack.min: -1 is not a whole number'],
    [
      { apiVersion: 'kubeproxy.config.k8s.io/v1alpha2' },
      'apiVersion: "kubeproxy.config.k8s.io/v1alpha2" is not known here',
    ],
    [{ ipvs: { strictARP: 'yes' } }, 'ipvs.strictARP: "yes" is not a boolean'],
  ])('refuses %j', (fields, message) => {
    expect(() => parse(fields)).toThrow(`kube-proxy.yaml: ${message}`)
  })
})

test("conntrackSysctls() counts by cores, between kube-proxy's bounds, and leaves zeros out", () => {
  const sysctls = (fields: object, cores: number) => {
    const conntrack = parse({ conntrack: fields }).kubeProxy?.conntrack
    return conntrack && Object.fromEntries(conntrackSysctls(conntrack, cores))
  }
  expect(sysctls({}, 2)).toEqual({
    nf_conntrack_max: 131_072,
    nf_conntrack_tcp_timeout_established: 86_400,
    nf_conntrack_tcp_timeout_close_wait: 3600,
  })
  expect(sysctls({}, 8)).toMatchObject({ nf_conntrack_max: 262_144 })
  expect(sysctls({}, 64)).toMatchObject({ nf_conntrack_max: 1_048_576 })
  const zeros = { maxPerCore: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' }
  expect(sysctls({ ...zeros, tcpBeLiberal: true, udpTimeout: '90s' }, 2)).toEqual({
    nf_conntrack_tcp_be_liberal: 1,
    nf_conntrack_udp_timeout: 90,
  })
})
