import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openJournal } from '../../src/api/journal.ts'
import { listAt, objectAt } from '../../src/api/kube-object.ts'

/** 200 for the whole experiment. */
const kills = Number(process.env['FAIRLEAD_TEST_KILLS'] ?? 8)

test(
  'ObjectStore has every acknowledged write after kill -9 at any time, and no address or port twice',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'api-crash-'))
    const file = join(folder, 'objects.db')
    const acknowledged = new Map<string, string>()
    try {
      for (let round = 0; round < kills; round++) {
        const writer = spawn(
          process.execPath,
          [join(import.meta.dirname, 'api-crash-writer.ts'), file, String(round)],
          {
            stdio: ['ignore', 'pipe', 'inherit'],
          },
        )
        let text = ''
        writer.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
        const closed = once(writer, 'close')
        while (!text.includes('\n') && writer.exitCode === null) await sleep(5)
        await sleep(Math.random() * 120)
        writer.kill('SIGKILL')
        await closed
        // The last line may be cut off.
        for (const line of text.split('\n').slice(0, -1))
          acknowledged.set(line.split(' ')[0] ?? '', line.split(' ')[1] ?? '')
      }
      using journal = openJournal(file)
      const { entries, revision } = journal.load()
      const services = entries.filter(({ resource }) => resource === 'services')
      const stored = new Map(services.map(({ name, object }) => [name, object.metadata.uid]))
      const lost = [...acknowledged].filter(([name, uid]) => stored.get(name) !== uid)
      expect(lost).toEqual([])
      const ips = services.flatMap(({ object }) => listAt(object.spec, 'clusterIPs'))
      const ports = services.flatMap(({ object }) =>
        listAt(object.spec, 'ports').map((port) => objectAt({ port }, 'port')['nodePort']),
      )
      const balancers = services.filter(({ object }) => object.spec?.['type'] === 'LoadBalancer')
      const healthPorts = balancers.map(({ object }) => object.spec?.['healthCheckNodePort'])
      const outside = balancers.flatMap(({ object }) => listAt(objectAt(object.status, 'loadBalancer'), 'ingress'))
      console.log(
        `${kills} kills: ${acknowledged.size} writes acknowledged, ${services.length} stored (${balancers.length} with health ports and outside addresses), revision ${revision}`,
      )
      expect(acknowledged.size).toBeGreaterThan(kills)
      expect(new Set(ips).size).toBe(services.length)
      expect(ports).toHaveLength(services.length)
      expect(new Set([...ports, ...healthPorts]).size).toBe(services.length + balancers.length)
      expect([...ports, ...healthPorts]).not.toContain(undefined)
      expect(new Set(outside.map((one) => JSON.stringify(one))).size).toBe(balancers.length)
      for (const { object } of entries) expect(Number(object.metadata.resourceVersion)).toBeLessThanOrEqual(revision)
    } finally {
      rmSync(folder, { recursive: true })
    }
  },
  60_000 + kills * 5000,
)
