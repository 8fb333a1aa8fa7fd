import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { loadConfig, parseConfig, parseKubeProxyConfig } from './config.ts'
import { kubeProxyApi } from './kube-proxy-keys.ts'
import { ConfigFollower, keysForRestart } from './reload.ts'

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

test('ConfigFollower.reload() takes over a changed file, and says what is wrong with it until it is right', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-reload-'))
  try {
    const file = join(folder, 'fairlead.yaml')
    const ttls: (number | undefined)[] = []
    const apply = async (config: ReturnType<typeof loadConfig>): Promise<readonly string[]> => {
      ttls.push(config.dns?.ttl)
      return ['dns']
    }
    writeFileSync(file, 'dns: {ttl: 5}')
    const source = { file, load: () => loadConfig(file) }
    using follower = new ConfigFollower(source, { clock: new FakeClock(), log: silentLog, apply })
    expect(await follower.reload()).toEqual({ later: [] })
    writeFileSync(file, 'dns: {tll: 9}')
    await expect(follower.reload()).rejects.toThrow(/dns\.tll.*ttl/)
    await expect(follower.reload()).rejects.toThrow(/dns\.tll/)
    writeFileSync(file, 'dns: {ttl: 9}')
    expect(await follower.reload()).toEqual({ later: ['dns'] })
    expect(await follower.reload()).toEqual({ later: ['dns'] })
    expect(ttls).toEqual([9])
  } finally {
    rmSync(folder, { recursive: true })
  }
})
