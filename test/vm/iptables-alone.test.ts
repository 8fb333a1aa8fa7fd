import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { patience } from '../lab/patience.ts'
import { Machine } from '../kernel/machine.ts'

const inGuest = process.env['FAIRLEAD_GUEST'] !== undefined
const server = new URL('../../examples/hello/server.js', import.meta.url).pathname
/** The guest's own: what it writes is gone with it. */
const blocked = '/etc/modprobe.d/no-nf-tables.conf'

const web = `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  clusterIP: 10.96.0.80
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
`

describe.skipIf(!inGuest)('a kernel without nf_tables (in the guest only: npm run test:vm)', () => {
  beforeAll(() => {
    writeFileSync(blocked, 'install nf_tables /bin/false\n')
    // Other tests may have loaded it; with their namespaces gone it can be taken out.
    spawnSync('modprobe', ['-r', 'nft_compat', 'nft_chain_nat', 'nft_ct', 'nft_fib_inet', 'nf_tables'])
  })
  afterAll(() => rmSync(blocked))

  test(
    'networks and Services work by the legacy iptables tools alone',
    { timeout: patience(120_000) },
    async ({ skip }) => {
      if (spawnSync('nft', ['list', 'tables']).status === 0) skip('nf_tables is loaded, and in use')
      await using machine = await Machine.create()
      const manifests = machine.write('web.yaml', web)
      const config = (more: string): string => `nodeName: node-1\nsources: {files: [${manifests}]}\n${more}`
      await expect(machine.startDaemon(config(''))).rejects.toThrow(
        /set services.mode and network.firewall to iptables/,
      )
      const daemon = await machine.startDaemon(config('network: {firewall: iptables}\nservices: {mode: iptables}\n'))
      const publish = ['--publish', '8081:8080', '--publish', '127.0.0.1:8082:8080']
      const words = [
        'pod',
        'run',
        'web',
        '--label',
        'app=web',
        ...publish,
        '--',
        process.execPath,
        server,
        'web',
        '8080',
      ]
      expect(await machine.fairlead(...words)).toMatchObject({ code: 0 })
      const outside = ['ip', 'netns', 'exec', 'outside']
      const get = async (url: string, from: readonly string[] = []): Promise<string> => {
        const { stdout, stderr } = await machine.run(...from, 'curl', '-sS', '-g', '--max-time', '20', url)
        return /^hello from \S+/.exec(stdout)?.[0] ?? stderr
      }
      for (const [url, from] of [
        ['http://192.0.2.2:8081/', outside],
        ['http://[2001:db8:2::2]:8081/', outside],
        ['http://192.0.2.2:30080/', outside],
        ['http://127.0.0.1:8082/', []],
        ['http://10.96.0.80/', []],
      ] as const) {
        await expect.poll(() => get(url, from), { message: url, timeout: patience(10_000) }).toBe('hello from web')
      }
      const pod = await machine.run(
        'ip',
        'netns',
        'exec',
        'fl-default.web',
        'ip',
        '-4',
        '-o',
        'address',
        'show',
        'eth0',
      )
      const ip = /inet ([\d.]+)/.exec(pod.stdout)?.[1] ?? ''
      await machine.run(...outside, 'ip', 'route', 'add', `${ip}/32`, 'via', '192.0.2.2')
      const direct = await machine.run(...outside, 'curl', '-sS', '--max-time', '5', `http://${ip}:8080/`)
      expect(direct.stderr).toContain('timed out')
      expect((await machine.fairlead('doctor')).stdout).not.toContain('MISSING')
      expect((await machine.fairlead('explain', '192.0.2.2:8081')).stdout).toContain('FAIRLEAD-PUBLISHED')
      await daemon.end('SIGTERM')
      expect(daemon.log).not.toMatch(/"level":"error"|"level":50/)
      expect(await machine.fairlead('cleanup')).toMatchObject({ code: 0 })
      expect((await machine.run('iptables-legacy-save')).stdout).not.toMatch(/FAIRLEAD|KUBE/)
    },
  )
})
