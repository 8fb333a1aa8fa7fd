import { expect, test } from 'vitest'
import { parseConfig, parseKubeProxyConfig } from './config.ts'
import { kubeProxyApi } from './kube-proxy-keys.ts'
import { keysForRestart } from './reload.ts'

const ours = (raw: object) => parseConfig(raw, { origin: 'test', relativeTo: '/' })
const theirs = (raw: object) => parseKubeProxyConfig({ ...kubeProxyApi, ...raw }, { origin: 'test' })

test.each([
  ['nothing', ours({}), ours({}), []],
  ['what is taken over at once', ours({}), ours({ services: { mode: 'userspace', masqueradeAll: true } }), []],
  ['other keys', ours({}), ours({ stateDir: '/x', dns: { ttl: 9 } }), ['stateDir', 'dns']],
  ['ranges of cluster IPs', ours({}), ours({ services: { serviceCIDRs: ['10.1.0.0/16'] } }), ['services.serviceCIDRs']],
  ['the proxy itself', ours({}), ours({ services: { enabled: false } }), ['services.enabled']],
  ["kube-proxy's servers and settings", theirs({}), theirs({ metricsBindAddress: '0.0.0.0:1', mode: 'nftables' }), []],
  ['what guards networks', ours({}), ours({ network: { firewall: 'iptables' } }), ['network.firewall']],
  ['the name of the node', theirs({}), theirs({ hostnameOverride: 'other' }), ['nodeName']],
])('keysForRestart() names what waits for the next start: %s', (_, before, after, keys) => {
  expect(keysForRestart(before, after)).toEqual(keys)
})
