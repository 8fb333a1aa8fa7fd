import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Explanation } from '../../src/daemon/explain.ts'
import { Machine, machineObstacle } from './machine.ts'

const obstacle = machineObstacle()

const web = `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  clusterIP: 10.96.0.80
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
`

describe.skipIf(obstacle !== undefined)(`fairlead explain${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  test('says what the kernel does with a packet, and who else refuses it', { timeout: 60_000 }, async () => {
    await using machine = await Machine.create()
    mkdirSync(join(machine.folder, 'manifests'))
    writeFileSync(join(machine.folder, 'manifests', 'web.yaml'), web)
    await machine.startDaemon(`nodeName: node-1\nsources: {files: [${join(machine.folder, 'manifests')}]}\n`)
    // The bridge has no pod yet, so no carrier: its addresses are the node's nevertheless.
    const dns = await machine.fairlead('explain', '--json', 'node', '10.96.0.10:53/udp')
    expect(JSON.parse(dns.stdout)).toMatchObject({ outcome: 'not-ours', differences: [] })
    const words = ['pod', 'run', 'web-1', '--label', 'app=web', '--publish', '8080:80']
    expect(await machine.fairlead(...words)).toMatchObject({ code: 0, stderr: '' })
    const explain = async (to: string) => {
      const { code, stdout } = await machine.fairlead('explain', '--json', to)
      const { outcome, endpoints, obstacles } = JSON.parse(stdout) as Explanation
      return { code, outcome, endpoints: endpoints.map(({ port, pod }) => `${pod}:${port}`), obstacles }
    }
    const reaches = (...endpoints: readonly string[]) => ({ code: 0, outcome: 'endpoints', endpoints, obstacles: [] })
    expect(await explain('192.0.2.2:8080')).toEqual(reaches('default/web-1:80'))
    expect(await explain('[2001:db8:2::2]:8080')).toEqual(reaches('default/web-1:80'))
    expect(await explain('10.96.0.80:80')).toEqual(reaches('default/web-1:8080'))
    expect(await explain('192.0.2.2:30080')).toEqual(reaches('default/web-1:8080'))
    expect(await explain('10.96.0.80:81')).toMatchObject({ code: 1, outcome: 'refused' })

    // Seen from a client: whose Service, which endpoints with what share, and whether the kernel agrees.
    const seen = await machine.fairlead('explain', '--json', 'default/web-1 -> 10.96.0.80:80')
    expect(seen.code).toBe(0)
    expect(JSON.parse(seen.stdout)).toMatchObject({
      origin: 'pod',
      outcome: 'endpoints',
      service: 'default/web',
      masquerade: false,
      endpoints: [{ pod: 'default/web-1', share: 1 }],
      differences: [],
    })
    expect((await machine.fairlead('verify')).stdout).toContain('the kernel agrees')
    expect(await machine.fairlead('explain', '203.0.113.9', '->', '10.96.0.80:81')).toMatchObject({ code: 1 })
    expect((await machine.fairlead('explain', 'nobody', '10.96.0.80:80')).stderr).toContain('from: "nobody" (expected')

    const chain = 'table ip other { chain forward { type filter hook forward priority 0; policy drop; }; }'
    await machine.run('nft', chain)
    const { stdout } = await machine.fairlead('explain', '192.0.2.2:8080')
    expect(stdout).toContain('may be stopped by forward ip other forward: policy drop')
  })
})
