import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadAll } from 'js-yaml'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseConfig } from '../../src/daemon/config.ts'
import { isRegistered } from '../../src/daemon/node-config.ts'
import { formatCidr } from '../../src/net/cidr.ts'
import { guestObstacle } from '../vm/guest.ts'
import { debianObstacle, DebianRoot, ensureDebian } from './debian-root.ts'

const checkout = fileURLToPath(new URL('../../', import.meta.url))
const obstacle = debianObstacle() ?? guestObstacle()
const provision = '/checkout/scripts/provision.sh'

describe.skipIf(obstacle)(`scripts/provision.sh ${obstacle ? `(skipped: ${obstacle})` : ''}`, () => {
  let debian: DebianRoot
  beforeAll(() => {
    debian = new DebianRoot({ base: ensureDebian(process.env), checkout, environment: process.env })
  }, 600_000)
  afterAll(() => debian?.[Symbol.dispose](), 120_000)

  test('provision.sh makes a fresh Debian run fairlead, with packages from Debian and npm', () => {
    const first = debian.run(['sh', provision, '--node-name', 'debian'])
    expect(first).toMatchObject({ code: 0 })
    expect(first.stdout).toMatch(/^Debian packages:.* nftables/m)
    expect(first.stdout).toContain('npm packages, Node among them')
    expect(first.stdout).toContain('wrote /etc/fairlead/fairlead.yaml')
    expect(debian.run(['fairlead', 'version']).stdout).toMatch(/^fairlead \d/)
    expect(debian.run(['systemctl', 'is-enabled', 'fairlead']).stdout).toBe('enabled\n')
    const verified = debian.run(['systemd-analyze', 'verify', '/etc/systemd/system/fairlead.service'])
    expect(verified).toEqual({ code: 0, stdout: '', stderr: '' })
  })

  test('provision.sh changes nothing the second time', () => {
    expect(debian.run(['sh', provision, '--node-name', 'debian'])).toEqual({ code: 0, stdout: '', stderr: '' })
  })

  test('provision.sh leaves a configuration alone that somebody changed', () => {
    expect(debian.run(['sh', '-c', 'echo "# mine" >>/etc/fairlead/fairlead.yaml']).code).toBe(0)
    const again = debian.run(['sh', provision, '--node-name', 'other'])
    expect(again.stdout).toBe("/etc/fairlead/fairlead.yaml is somebody else's, or changed: left alone\n")
  })

  test.each([
    ['control', { api: { listen: { host: '0.0.0.0', port: 6443 } } }],
    ['worker', { api: undefined }],
  ])(
    'provision.sh --role %s writes a configuration that the daemon takes, and keeps kubeconfigs to root',
    (role, expected) => {
      const files = '/etc/fairlead/fairlead.yaml /etc/fairlead/kubeconfig'
      debian.run(['sh', '-c', `rm -f ${files}; echo 'kind: Config' >/root/kubeconfig`])
      const words = ['--role', role, '--node-name', 'n1', '--node-ip', '192.0.2.10', '--pod-cidr', '10.244.7.0/24']
      const more = role === 'worker' ? ['--mode', 'iptables', '--kubeconfig', '/root/kubeconfig'] : []
      expect(debian.run(['sh', provision, ...words, ...more])).toMatchObject({ code: 0, stderr: '' })
      const [raw] = loadAll(debian.run(['cat', '/etc/fairlead/fairlead.yaml']).stdout)
      const config = parseConfig(raw, { origin: 'fairlead.yaml', relativeTo: '/etc/fairlead' })
      expect(config).toMatchObject({ nodeName: 'n1', ...expected })
      expect(isRegistered(config)).toBe(true)
      expect(config.node.addresses).toEqual(['192.0.2.10'])
      expect(config.services?.mode).toBe(role === 'worker' ? 'iptables' : 'nftables')
      expect(config.network?.subnets?.map(formatCidr)).toEqual(['10.244.7.0/24'])
      if (role === 'worker') {
        expect(config.sources.kubernetes?.location).toEqual({ kind: 'kubeconfig', path: '/etc/fairlead/kubeconfig' })
        expect(debian.run(['stat', '-c', '%a', '/etc/fairlead/kubeconfig']).stdout).toBe('600\n')
      }
      debian.run(['sh', '-c', `rm -f ${files}`])
      expect(debian.run(['sh', provision, '--node-name', 'debian']).code).toBe(0)
    },
  )

  test("the machine's systemd starts it: ready, reloads, restarts, and pods outlive it", () => {
    const folder = mkdtempSync(join(tmpdir(), 'fairlead-provision-'))
    try {
      copyFileSync(fileURLToPath(new URL('check.sh', import.meta.url)), join(folder, 'check.sh'))
      copyFileSync(join(checkout, 'examples/hello/server.js'), join(folder, 'server.js'))
      const guest = [process.execPath, join(checkout, 'test/vm/main.ts'), '--limit', '800', '--share', folder, '--root']
      const { code, stdout, stderr } = debian.serve(guest, ['sh', `${folder}/check.sh`, `${folder}/server.js`])
      process.stdout.write(stdout)
      expect(stdout.split('\n').filter((line) => line.startsWith('not ok'))).toEqual([])
      expect(stdout).toContain('ok the log has no errors')
      expect({ code, stderr }).toMatchObject({ code: 0 })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
