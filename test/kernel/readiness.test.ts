import { mkdirSync, writeFileSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { PodView } from '../../src/daemon/control-api.ts'
import { Machine, machineObstacle, sleep } from './machine.ts'

const obstacle = machineObstacle()

/** Answers 503 while a file is there; beside it, it says its name. */
const server = `const [name, sick] = process.argv.slice(1)
require('node:http').createServer((request, response) => {
  response.statusCode = request.url === '/healthz' && require('node:fs').existsSync(sick) ? 503 : 200
  response.end('hello from ' + name)
}).listen(8080)`

const service = `apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, clusterIP: 10.96.0.80, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: each}
spec: {selector: {app: web}, clusterIP: None, ports: [{port: 8080}]}
`

async function eventually(attempt: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + 15_000
  for (;;) {
    try {
      await attempt()
      return
    } catch (error) {
      if (Date.now() > deadline) throw error
      await sleep(50)
    }
  }
}

describe.skipIf(obstacle !== undefined)(`readiness probes${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  test(
    'readiness probes: a pod that does not answer has no traffic and no name, comes back, and stays as it is over a restart of the daemon',
    { timeout: 90_000 },
    async () => {
      await using machine = await Machine.create()
      const manifests = join(machine.folder, 'manifests')
      mkdirSync(manifests)
      writeFileSync(join(manifests, 'web.yaml'), service)
      const config = `sources: {files: [${manifests}]}\napi: {enabled: false}\n`
      const daemon = await machine.startDaemon(config)
      const sick = join(machine.folder, 'sick')
      await writeFile(sick, '')
      const start = (name: string, ...flags: readonly string[]) =>
        machine.fairlead(
          'pod',
          'run',
          name,
          '-l',
          'app=web',
          ...flags,
          '--',
          process.execPath,
          '-e',
          server,
          name,
          sick,
        )
      const http = [
        '--readiness-http',
        '/healthz:8080',
        '--readiness-period',
        '1',
        '--readiness-failure-threshold',
        '2',
      ]
      expect(await start('http', ...http)).toMatchObject({ code: 0 })
      expect(await start('tcp', '--readiness-tcp', '8080')).toMatchObject({ code: 0 })
      expect(await start('none', '--network', 'none', '--readiness-tcp', '8080')).toMatchObject({ code: 1 })

      const names = async (): Promise<string[]> => {
        const asked = await machine.run('dig', '+short', '@10.96.0.10', 'each.default.svc.cluster.local')
        const pods = await machine.ask<{ pods: PodView[] }>('/pods')
        const name = (ip: string): string => pods.pods.find(({ ips }) => ips.includes(ip))?.name ?? ip
        return asked.stdout.trim().split('\n').map(name).toSorted()
      }
      const said = async (): Promise<string[]> => {
        const asked = Array.from({ length: 24 }, () =>
          machine.run('curl', '-s', '--max-time', '1', 'http://10.96.0.80/'),
        )
        return [...new Set((await Promise.all(asked)).map(({ stdout }) => stdout))].toSorted()
      }
      await eventually(async () => expect(await names()).toEqual(['tcp']))
      expect(await said()).toEqual(['hello from tcp'])
      await eventually(async () =>
        expect((await machine.status())?.network?.problems).toEqual([
          'pod default/http is not ready: http /healthz:8080: status 503',
        ]),
      )
      expect((await machine.fairlead('pod', 'ls')).stdout).toMatch(/http .* running +no /)

      await rm(sick)
      await eventually(async () => expect(await names()).toEqual(['http', 'tcp']))
      expect(await said()).toEqual(['hello from http', 'hello from tcp'])
      await writeFile(sick, '')
      await eventually(async () => expect(await names()).toEqual(['tcp']))
      expect(await said()).toEqual(['hello from tcp'])
      const events = daemon.log.split('\n').filter((line) => line.includes('default/http is '))
      expect(events).toHaveLength(2)
      expect(events[1]).toContain('not ready: status 503')

      // What was known counts from the first moment on: neither is all in rotation, nor nothing.
      await daemon.end('SIGKILL')
      await machine.startDaemon(config)
      expect(await names()).toEqual(['tcp'])
      expect(await said()).toEqual(['hello from tcp'])
      await rm(sick)
      await eventually(async () => expect(await names()).toEqual(['http', 'tcp']))
    },
  )
})
